{{/* The names of things. */}}
{{- define "otel-agents.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* At most 40 characters, so that "-gateway-headless-0" still fits in a DNS label of 63. */}}
{{- define "otel-agents.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "otel-agents.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "otel-agents.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "otel-agents.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "otel-agents.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{/* What never changes over the life of a release, since selectors cannot be changed. */}}
{{- define "otel-agents.selector" -}}
app.kubernetes.io/name: {{ include "otel-agents.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "otel-agents.labels" -}}
{{ include "otel-agents.selector" . }}
app.kubernetes.io/part-of: otel-agents
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* An image by digest, else by tag. Takes (dict "image" … "tag" the tag where none is given). */}}
{{- define "otel-agents.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (default .tag .image.tag) -}}
{{- end -}}
{{- end }}

{{/* The port of the pods behind a backend: the one given, the URL's, or its scheme's. */}}
{{- define "otel-agents.port" -}}
{{- $parts := urlParse .url -}}
{{- $explicit := regexFind ":[0-9]+$" $parts.host | trimPrefix ":" -}}
{{- if .port -}}
{{- .port -}}
{{- else if $explicit -}}
{{- $explicit -}}
{{- else -}}
{{- ternary "443" "80" (eq $parts.scheme "https") -}}
{{- end -}}
{{- end }}

{{/* Where the gateways hand signals on to: the chart's server or another. */}}
{{- define "otel-agents.serverUrl" -}}
{{- if .Values.server.enabled -}}
http://{{ include "otel-agents.fullname" . }}-server:4318
{{- else -}}
{{- required "server.enabled is false: name another server in backends.server.url, or switch gateway.enabled off" .Values.backends.server.url -}}
{{- end -}}
{{- end }}

{{/* The generated files name loopback addresses; a cluster has others. Takes the file's text. */}}
{{- define "otel-agents.addressed" -}}
{{- .text | replace "http://127.0.0.1:3010" (trimSuffix "/" .urls.console) | replace "http://127.0.0.1:3000" (trimSuffix "/" .urls.grafana) | replace "http://127.0.0.1:16686" (trimSuffix "/" .urls.jaeger) -}}
{{- end }}

{{/* Every pod: no API token, no root, and what "restricted" of the pod security standards asks. */}}
{{- define "otel-agents.podSecurity" -}}
serviceAccountName: {{ include "otel-agents.serviceAccountName" . }}
automountServiceAccountToken: false
# Otherwise the cluster puts variables like OTEL_AGENTS_SERVER_PORT into our environment.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "otel-agents.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Where a component's pods may run. Takes the component's values. */}}
{{- define "otel-agents.placement" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
