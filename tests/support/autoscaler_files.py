"""Files of autoscalers with every field that Penstock reads."""

KEDA = """\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: chat, annotations: {team: llm}}
spec:
  scaleTargetRef: {name: chat}
  pollingInterval: 15
  cooldownPeriod: 600
  initialCooldownPeriod: 0
  minReplicaCount: 1
  maxReplicaCount: 6
  fallback: {failureThreshold: 3, replicas: 4, behavior: currentReplicasIfHigher}
  advanced:
    restoreToOriginalReplicaCount: true
    horizontalPodAutoscalerConfig:
      name: chat-hpa
      behavior: {scaleDown: {stabilizationWindowSeconds: 120}}
  triggers:
  - type: prometheus
    name: queue
    metricType: AverageValue
    useCachedMetrics: false
    metadata:
      serverAddress: http://prometheus:9090
      query: sum(vllm:num_requests_waiting{model_name="chat"})
      threshold: "5"
      activationThreshold: "2"
      ignoreNullValues: "true"
    authenticationRef: {name: token}
  - type: prometheus
    metricType: Value
    metadata:
      serverAddress: http://prometheus:9090
      query: max(vllm:kv_cache_usage_perc)
      threshold: "0.8"
"""
KNATIVE = """\
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: chat}
spec:
  template:
    metadata:
      labels: {app: chat}
      annotations:
        autoscaling.knative.dev/class: kpa.autoscaling.knative.dev
        autoscaling.knative.dev/metric: concurrency
        autoscaling.knative.dev/target: "40"
        autoscaling.knative.dev/target-utilization-percentage: "80"
        autoscaling.knative.dev/min-scale: "1"
        autoscaling.knative.dev/max-scale: "7"
        autoscaling.knative.dev/window: 40s
        autoscaling.knative.dev/panic-window-percentage: "20"
        autoscaling.knative.dev/panic-threshold-percentage: "150"
        autoscaling.knative.dev/scale-down-delay: 2m
        autoscaling.knative.dev/scale-to-zero-pod-retention-period: 1m5s
        autoscaling.knative.dev/activation-scale: "2"
        autoscaling.knative.dev/target-burst-capacity: "0"
        sidecar.istio.io/inject: "false"
    spec:
      containerConcurrency: 32
      containers: [{image: vllm}]
  traffic: [{latestRevision: true, percent: 100}]
"""
AIBRIX = """\
apiVersion: autoscaling.aibrix.ai/v1alpha1
kind: PodAutoscaler
metadata:
  name: chat
  annotations:
    autoscaling.aibrix.ai/max-scale-up-rate: "3"
    autoscaling.aibrix.ai/max-scale-down-rate: "1.5"
    autoscaling.aibrix.ai/scale-up-tolerance: "0.2"
    autoscaling.aibrix.ai/scale-down-tolerance: "0.3"
    autoscaling.aibrix.ai/scale-up-cooldown-window: 30s
    autoscaling.aibrix.ai/scale-down-cooldown-window: 10m
    autoscaling.aibrix.ai/scale-to-zero: "false"
    app.kubernetes.io/name: chat
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: chat}
  scalingStrategy: APA
  minReplicas: 1
  maxReplicas: 8
  observeWindowSeconds: 60
  metricsSources:
  - metricSourceType: pod
    protocolType: http
    port: "8000"
    path: /metrics
    targetMetric: kv_cache_usage_perc
    targetValue: "0.5"
"""
RAY = """\
applications:
- name: chat
  import_path: chat:app
  deployments:
  - name: router
    num_replicas: 1
  - name: model
    max_ongoing_requests: 64
    autoscaling_config:
      min_replicas: 1
      max_replicas: 5
      target_ongoing_requests: 24
      upscale_delay_s: 10
      downscale_delay_s: 120
      downscale_to_zero_delay_s: 900
      look_back_period_s: 20
      metrics_interval_s: 5
      upscaling_factor: 0.8
      downscaling_factor: 0.5
      aggregation_function: mean
"""
DYNAMO = """\
environment: kubernetes
backend: vllm
mode: agg
optimization_target: sla
ttft: 2000
itl: 40
enable_throughput_scaling: true
enable_load_scaling: true
throughput_adjustment_interval: 120
load_adjustment_interval: 10
load_scaling_down_sensitivity: 70
load_predictor: kalman
load_predictor_log1p: true
kalman_q_level: 2
kalman_q_trend: 0.2
kalman_r: 5
kalman_min_points: 5
max_gpu_budget: 16
min_endpoint: 2
"""
