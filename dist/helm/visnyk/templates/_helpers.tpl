{{- define "visnyk.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "visnyk.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "visnyk.labels" -}}
{{ include "visnyk.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* "true" if the settings name a backend that hubs share. */}}
{{- define "visnyk.isShared" -}}
{{- if regexMatch `(?m)^\s*(backend|(backend\.)?url)\s*=\s*"rediss?://` .Values.config -}}true{{- end -}}
{{- end -}}

{{/* "true" if the settings have a key of some kind. */}}
{{- define "visnyk.hasKeys" -}}
{{- if or .Values.auth.existingSecret (regexMatch `(?m)^\s*(auth\.)?(jwt_secret_file|public_key_files|jwks_file|jwks_url)\s*=` .Values.config) -}}true{{- end -}}
{{- end -}}

{{- define "visnyk.scheme" -}}
{{- if regexMatch `(?m)^\s*tls_cert\s*=` .Values.config -}}HTTPS{{- else -}}HTTP{{- end -}}
{{- end -}}

{{/* What would be refused by the hub, or would lose events without a word, is not rendered. */}}
{{- define "visnyk.check" -}}
{{- $isShared := include "visnyk.isShared" . -}}
{{- if and (gt (int .Values.replicas) 1) (not $isShared) -}}
{{- fail (printf "replicas is %d, and `config` names no shared backend: hubs share nothing, so an event would reach the clients of one replica alone. Set replicas to 1, or name Redis in `config` (docs/scaling.md)." (int .Values.replicas)) -}}
{{- end -}}
{{- if and $isShared .Values.persistence.enabled -}}
{{- fail "persistence.enabled is true beside a shared backend: the backend keeps the history. Set persistence.enabled to false." -}}
{{- end -}}
{{- if not (or (include "visnyk.hasKeys" .) .Values.auth.insecure) -}}
{{- fail "no key for tokens: set auth.existingSecret to a Secret with one, name keys in `config` (auth.jwks_url, auth.public_key_files), or consent to a hub without tokens by auth.insecure=true." -}}
{{- end -}}
{{- if and .Values.metrics.existingSecret (not (include "visnyk.hasKeys" .)) -}}
{{- fail "metrics.existingSecret needs a key for tokens: a hub without one shows its metrics to everyone." -}}
{{- end -}}
{{- if regexMatch `(?m)^\s*(listen|data_dir|drain_delay_s|drain_window_s)\s*=` .Values.config -}}
{{- fail "`config` sets listen, data_dir, drain_delay_s or drain_window_s, which the chart sets: use persistence, drainDelaySeconds and drainWindowSeconds." -}}
{{- end -}}
{{- if and .Values.metrics.serviceMonitor.enabled (include "visnyk.hasKeys" .) (not .Values.metrics.existingSecret) -}}
{{- fail "metrics.serviceMonitor.enabled needs metrics.existingSecret: a hub with tokens shows its metrics to a token alone." -}}
{{- end -}}
{{- end -}}
