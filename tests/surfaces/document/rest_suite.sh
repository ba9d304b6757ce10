#!/bin/bash
BASE_URL="http://localhost:8200"

echo "=== SeedVR2 API 测试套件 ==="

# 1. 健康检查
echo "1. 健康检查"
curl -s $BASE_URL/health | jq .

# 2. GPU 状态
echo "2. GPU 状态"
curl -s $BASE_URL/api/gpu/status | jq .

# 3. 列出模型
echo "3. 列出模型"
curl -s $BASE_URL/api/models | jq '{count: (.models|length), default, current}'

# 4. 切换模型
echo "4. 切换模型"
curl -s -X POST $BASE_URL/api/models/switch \
  -H "Content-Type: application/json" \
  -d '{"model": "seedvr2_ema_3b_fp8_e4m3fn.safetensors"}' | jq .

# 5. 队列状态
echo "5. 队列状态"
curl -s $BASE_URL/api/queue/status | jq .

# 6. 提交任务
echo "6. 提交图片任务"
RESP=$(curl -s -X POST $BASE_URL/api/process \
  -F "file=@test.png" \
  -F "resolution=480" \
  -F "batch_size=1")
echo "$RESP" | jq .
TASK_ID=$(echo "$RESP" | jq -r '.task_id')

# 7. 轮询状态
echo "7. 轮询任务状态..."
while true; do
  STATUS=$(curl -s $BASE_URL/api/status/$TASK_ID)
  STATE=$(echo "$STATUS" | jq -r '.status')
  echo "  状态: $STATE"
  [ "$STATE" = "completed" ] || [ "$STATE" = "failed" ] && break
  sleep 2
done
echo "$STATUS" | jq .

# 8. 下载结果
echo "8. 下载结果"
curl -s -I $BASE_URL/api/download/$TASK_ID | head -5

echo "=== 所有测试完成 ==="
