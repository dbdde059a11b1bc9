{{/*
The pod of a collector, gateway or node agent. Takes a dict: "root", "component", "values" of the
component, "configs" the files below files/collector, "merged" what the collector merges in this
order, "env" what is set besides the addresses to listen on, "token" whether it has the ingest token.
*/}}
{{- define "otel-agents.collectorPod" -}}
{{- $root := .root -}}
metadata:
  labels:
    {{- include "otel-agents.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
  annotations:
    kubectl.kubernetes.io/default-container: collector
    checksum/config: {{ include "otel-agents.collectorFiles" (dict "root" $root "configs" .configs) | sha256sum }}
    {{- with .values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- include "otel-agents.podSecurity" $root | nindent 2 }}
  {{- with include "otel-agents.placement" .values }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- if eq .component "gateway" }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "otel-agents.selector" $root | nindent 10 }}
          app.kubernetes.io/component: {{ .component }}
  {{- end }}
  # Time to write to the queues what is on its way.
  terminationGracePeriodSeconds: 30
  containers:
    - name: collector
      image: {{ include "otel-agents.image" (dict "image" $root.Values.collector.image "tag" "") }}
      imagePullPolicy: {{ $root.Values.collector.image.pullPolicy }}
      args:
        {{- range .merged }}
        - {{ printf "--config=%s" . | quote }}
        {{- end }}
      env:
        - {name: GOMEMLIMIT, value: {{ .values.goMemoryLimit }}}
        # The `instance` of the series that it makes itself; a gateway's outlives a restart.
        - name: COLLECTOR_NAME
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        - {name: COLLECTOR_OTLP_GRPC_ENDPOINT, value: "0.0.0.0:4317"}
        - {name: COLLECTOR_OTLP_HTTP_ENDPOINT, value: "0.0.0.0:4318"}
        - {name: COLLECTOR_HEALTH_ENDPOINT, value: "0.0.0.0:13133"}
        - {name: COLLECTOR_METRICS_HOST, value: 0.0.0.0}
        - {name: COLLECTOR_QUEUE_DIR, value: /var/lib/otelcol/queues}
        {{- range $name, $value := .env }}
        - {name: {{ $name }}, value: {{ $value | quote }}}
        {{- end }}
        {{- if .token }}
        - {name: COLLECTOR_INGEST_TOKEN_FILE, value: /run/secrets/otel-agents/ingest_token}
        {{- end }}
        {{- with .values.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - {name: otlp-grpc, containerPort: 4317}
        - {name: otlp-http, containerPort: 4318}
        - {name: metrics, containerPort: 8888}
        - {name: health, containerPort: 13133}
      # It compacts its queues before it listens.
      startupProbe:
        httpGet: {path: /, port: health}
        periodSeconds: 2
        timeoutSeconds: 3
        failureThreshold: 150
      livenessProbe:
        httpGet: {path: /, port: health}
        periodSeconds: 10
        timeoutSeconds: 3
        failureThreshold: 3
      readinessProbe:
        httpGet: {path: /, port: health}
        periodSeconds: 5
        timeoutSeconds: 3
        failureThreshold: 2
      resources:
        {{- toYaml .values.resources | nindent 8 }}
      securityContext:
        {{- include "otel-agents.containerSecurity" $root | nindent 8 }}
      volumeMounts:
        - {name: config, mountPath: /etc/otelcol, readOnly: true}
        - {name: queues, mountPath: /var/lib/otelcol}
        - {name: tmp, mountPath: /tmp}
        {{- if .token }}
        - {name: token, mountPath: /run/secrets/otel-agents, readOnly: true}
        {{- end }}
  volumes:
    - name: config
      configMap: {name: {{ include "otel-agents.fullname" $root }}-{{ .component }}}
    - name: tmp
      emptyDir: {sizeLimit: 64Mi}
    {{- if .token }}
    - name: token
      secret:
        secretName: {{ $root.Values.tokens.secret }}
        defaultMode: 288  # 0440
        items:
          - {key: {{ $root.Values.tokens.keys.ingest }}, path: ingest_token}
    {{- end }}
    {{- if eq .component "node" }}
    - name: queues
      emptyDir: {sizeLimit: {{ .values.queueSize }}}
    {{- end }}
{{- end }}

{{/* The configuration files of a collector, as they stand in the repository. */}}
{{- define "otel-agents.collectorFiles" -}}
{{- $root := .root -}}
{{- range .configs }}
{{- $text := $root.Files.Get (printf "files/collector/%s" .) | required (printf "files/collector/%s is not in the chart: take a whole checkout, or what helm package makes of one" .) }}
{{ . }}: |
  {{- $text | trimSuffix "\n" | nindent 2 }}
{{- end }}
{{- end }}

{{/* The ConfigMap of a collector. */}}
{{- define "otel-agents.collectorConfigMap" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "otel-agents.fullname" .root }}-{{ .component }}
  labels:
    {{- include "otel-agents.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
data:
  {{- include "otel-agents.collectorFiles" . | nindent 2 }}
{{- end }}

{{/* The ports of a collector's service. */}}
{{- define "otel-agents.collectorPorts" -}}
- {name: otlp-grpc, port: 4317, targetPort: otlp-grpc, appProtocol: grpc}
- {name: otlp-http, port: 4318, targetPort: otlp-http, appProtocol: http}
{{- end }}
