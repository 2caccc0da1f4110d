"""The two resources of the contract, as they stand there, and small changes of them."""

import copy
import itertools
from typing import Any

import yaml

SHA256 = "3f9a12c4d5e6" + "ab" * 26

MINIMAL = f"""
apiVersion: dspy-operator.io/v1alpha1
kind: DSPyDeployment
metadata: {{name: support-triage}}
spec:
  program:
    module: support_triage:Triage
    source: {{configMap: {{name: support-triage-code}}}}
    artifact: {{configMap: {{name: support-triage-3f9a12c4d5e6, key: program.json}}, sha256: {SHA256}}}
  lm: {{primary: {{model: openai/gpt-4o-mini, apiKeySecret: {{name: llm, key: openai}}}}}}
  scoring: {{function: support_triage:score}}
"""

WHOLE = f"""
apiVersion: dspy-operator.io/v1alpha1
kind: DSPyDeployment
metadata: {{name: support-triage}}
spec:
  replicas: 2
  image: registry/support-triage:1
  program:
    module: support_triage:Triage
    source: {{configMap: {{name: support-triage-code}}}}
    artifact:
      sha256: {SHA256}
      configMap: {{name: support-triage-3f9a12c4d5e6, key: program.json}}
  lm:
    primary: {{model: openai/gpt-4o-mini, apiBase: "", apiKeySecret: {{name: llm, key: openai}}, maxTokens: 1024}}
    fallbacks: [{{model: anthropic/claude-haiku-4-5, apiKeySecret: {{name: llm, key: anthropic}}}}]
    timeout: 30s
  serving:
    cache:
      redisSecret: {{name: redis, key: url}}
      ttl: 24h
      scope: User
      staleIfError: 0s
      lmMemoryEntries: 5000
      disk: {{enabled: false, sizeLimit: 1Gi, maxAge: 168h}}
    limits:
      concurrency: 64
      queue: 128
      perUserTokensPerDay: 200000
      maxBodyBytes: 65536
      requestsPerSecond: 0
      perUserRequestsPerMinute: 0
      maxFieldChars: 32768
      budgetOnRedisError: Allow
    breaker: {{failures: 5, openFor: 30s}}
    cors: {{allowOrigins: ["https://app.example.com"]}}
    degraded: {{outputs: {{queue: unknown}}}}
    parseRetry: true
    artifactLm: Drop
    warmup: Stub
    capture: {{sample: "0%", max: 500}}
    logs: {{level: INFO, text: "Off", redact: []}}
    tracing: {{endpoint: "http://otel:4318", sample: "10%"}}
    admin: {{tokenSecret: {{name: admin, key: token}}}}
    podTemplate: {{}}
  scoring:
    function: support_triage:score
    judge: {{}}
    sample: "100%"
    perUserInterval: 0s
    feedbackKeySecret: {{name: feedback, key: hmac}}
  traffic:
    isolation: Auto
    userHeader: X-User-Id
    overrideHeader: ""
    gateway: {{parentRefs: [{{name: public}}], hostnames: [triage.example.com]}}
    canaryReplicas: null
    approximation: Refuse
  strategy:
    canary:
      steps:
      - {{weight: 10, minDuration: 24h, minSamples: 100, deadline: 72h}}
      - {{weight: 50, minDuration: 1h, deadline: 24h, approval: Manual}}
      - {{weight: 100}}
      analysis:
        interval: 30s
        mode: Evidence
        confidence: "0.95"
        onDeadline: Threshold
        metrics:
        - name: score
          type: Score
          maxDrop: "5%"
          tolerance: "3%"
          minSamples: 50
          source: Auto
          onMissing: Hold
          min: "0.70"
        - {{name: latency, type: LatencyP95, maxIncrease: "20%", max: 10s}}
        - {{name: errors, type: ErrorRate, maxIncreasePoints: "1", max: "5%"}}
        - {{name: refusals, type: Ratio, series: triage_refusals_total, maxIncreasePoints: "1"}}
        - {{name: cost, type: CostPerRequest, maxIncrease: "30%", dryRun: true}}
      bake: 30m
      readyDeadline: 10m
    rollbackWindow: {{revisions: 3}}
    onNewRevision: Supersede
    readyWhen: Promoted
  regression:
    dataset: {{configMap: {{name: canary-set, key: examples.jsonl}}}}
    metric: support_triage:metric
    maxDrop: "2%"
    minScore: "0.70"
    deadline: 30m
  paused: false
  revisionHistoryLimit: 10
"""


def minimal() -> dict[str, Any]:
    """The complete resource of the contract that leaves everything to defaults."""
    return dict(yaml.safe_load(MINIMAL))


def whole() -> dict[str, Any]:
    """A resource with every field of the contract but blueGreen, uri and pullSecret, which exclude others."""
    return dict(yaml.safe_load(WHOLE))


def changed(resource: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """A copy with one field set: `a.b[0].c`; the value `...` removes it."""
    copied = copy.deepcopy(resource)
    keys: list[str | int] = []
    for part in path.split("."):
        name, *indexes = part.replace("]", "").split("[")
        keys += [name, *map(int, indexes)]
    parent: Any = copied
    for key, following in itertools.pairwise(keys):
        if isinstance(parent, dict):
            parent = parent.setdefault(key, [] if isinstance(following, int) else {})
        else:
            parent = parent[key]
    if value is ...:
        del parent[keys[-1]]
    else:
        parent[keys[-1]] = value
    return copied
