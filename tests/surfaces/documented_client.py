# ruff: noqa
# fmt: off
# The Python MCP client of the public SeedVR2 document, to the letter, without its two lines of use (see test_documented_client.py).
"""
SeedVR2 MCP 客户端 - 用于 AI 助手集成
"""
import json
import subprocess
from typing import Any, Dict

class SeedVR2MCPClient:
    """SeedVR2 视频超分 MCP 客户端"""
    
    def __init__(self, mcp_server_path: str = "mcp_server.py"):
        self.server_path = mcp_server_path
    
    def _call_tool(self, tool_name: str, arguments: Dict[str, Any] = None) -> Dict:
        """通过 stdio 调用 MCP 工具"""
        request = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {
                "name": tool_name,
                "arguments": arguments or {}
            }
        }
        
        proc = subprocess.Popen(
            ["python", self.server_path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE
        )
        
        stdout, _ = proc.communicate(json.dumps(request).encode())
        return json.loads(stdout)
    
    def get_queue_status(self) -> Dict:
        return self._call_tool("get_queue_status")
    
    def submit_video(self, file_path: str, resolution: int = 1080, 
                     batch_size: int = 5, **kwargs) -> Dict:
        return self._call_tool("submit_video_task", {
            "file_path": file_path,
            "resolution": resolution,
            "batch_size": batch_size,
            **kwargs
        })
    
    def wait_for_task(self, task_id: str, timeout: int = 600) -> Dict:
        return self._call_tool("wait_for_task", {
            "task_id": task_id,
            "timeout": timeout
        })
