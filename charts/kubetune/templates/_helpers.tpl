{{- define "kubetune.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* The prefix of all names in the release's namespace: `kubetune` for a release of that name. Short enough for `-postgresql-0`. */ -}}
{{- define "kubetune.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "kubetune.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "kubetune.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* The prefix of cluster-wide names: two releases never meet, since no namespace has a dot. */ -}}
{{- define "kubetune.clusterName" -}}
{{- $fullname := include "kubetune.fullname" . -}}
{{- if and (eq $fullname "kubetune") (eq .Release.Namespace "kubetune") -}}
kubetune
{{- else -}}
{{- printf "%s.%s" .Release.Namespace $fullname -}}
{{- end -}}
{{- end -}}

{{- define "kubetune.labels" -}}
{{ include "kubetune.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: kubetune
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "kubetune.selector" -}}
app.kubernetes.io/name: {{ include "kubetune.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "kubetune.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- with .Values.image.extras }}-{{ . }}{{ end -}}
{{- end -}}

{{- define "kubetune.operatorAccount" -}}
{{- $account := .Values.operator.serviceAccount -}}
{{- $account.name | default (ternary (printf "%s-operator" (include "kubetune.fullname" .)) "default" $account.create) -}}
{{- end -}}

{{- define "kubetune.gatewayAccount" -}}
{{- $account := .Values.gateway.serviceAccount -}}
{{- $account.name | default (ternary (printf "%s-gateway" (include "kubetune.fullname" .)) "default" $account.create) -}}
{{- end -}}

{{- define "kubetune.gatewayHost" -}}
{{- printf "%s-gateway.%s.svc" (include "kubetune.fullname" .) .Release.Namespace -}}
{{- end -}}

{{- /* Whether the operator makes the certificate: "true" or "". */ -}}
{{- define "kubetune.tlsManaged" -}}
{{- if not (or .Values.tls.existingSecret .Values.tls.certManager.enabled) -}}true{{- end -}}
{{- end -}}

{{- define "kubetune.tlsSecret" -}}
{{- .Values.tls.existingSecret | default (printf "%s-gateway-tls" (include "kubetune.fullname" .)) -}}
{{- end -}}

{{- define "kubetune.databaseSecret" -}}
{{- if .Values.postgresql.enabled -}}
{{- .Values.postgresql.existingSecret | default (printf "%s-postgresql" (include "kubetune.fullname" .)) -}}
{{- else -}}
{{- .Values.database.external.secretName -}}
{{- end -}}
{{- end -}}

{{- define "kubetune.check" -}}
{{- $external := .Values.database.external.secretName -}}
{{- if and .Values.postgresql.enabled $external -}}
{{- fail "database.external.secretName is given and postgresql.enabled is true: set postgresql.enabled to false to use your own PostgreSQL" -}}
{{- end -}}
{{- if not (or .Values.postgresql.enabled $external) -}}
{{- fail "there is no database: set postgresql.enabled to true, or database.external.secretName to a Secret with the URL of yours" -}}
{{- end -}}
{{- with .Values.objectStorage -}}
{{- if and .endpoint (not (and .bucket .secretName)) -}}
{{- fail "objectStorage.endpoint is given: give objectStorage.bucket and objectStorage.secretName too" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.tls.existingSecret .Values.tls.certManager.enabled -}}
{{- fail "tls.existingSecret and tls.certManager.enabled exclude each other: drop one" -}}
{{- end -}}
{{- if and .Values.tls.certManager.enabled (not .Values.tls.certManager.issuerRef.name) -}}
{{- fail "tls.certManager.issuerRef.name is missing: name the issuer that signs the gateway's certificate" -}}
{{- end -}}
{{- end -}}

{{- /* A value for an environment variable: whole numbers without the exponent that YAML's floats would get. */ -}}
{{- define "kubetune.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- end -}}

{{- /* The environment of operator, gateway and migration: kubetune/settings.py. */ -}}
{{- define "kubetune.env" -}}
- {name: KUBETUNE_DATABASE_URL_FILE, value: /etc/kubetune/database/url}
- {name: KUBETUNE_NAMESPACE, value: {{ .Release.Namespace | quote }}}
- {name: KUBETUNE_LEASE_NAME, value: {{ include "kubetune.fullname" . }}-leader}
- {name: KUBETUNE_WATCH_NAMESPACES, value: {{ join "," .Values.watchNamespaces | quote }}}
- {name: KUBETUNE_GATEWAY_URL, value: {{ printf "https://%s:8443" (include "kubetune.gatewayHost" .) | quote }}}
- {name: KUBETUNE_WORKER_IMAGE, value: {{ printf "%s:%s" .Values.workers.image.repository (.Values.workers.image.tag | default .Chart.AppVersion) | quote }}}
- {name: KUBETUNE_LISTEN_PORT, value: "8443"}
- {name: KUBETUNE_HTTP_PORT, value: "8080"}
- {name: KUBETUNE_TLS_DIRECTORY, value: /etc/kubetune/tls}
- {name: KUBETUNE_TLS_SECRET, value: {{ include "kubetune.tlsSecret" . | quote }}}
- {name: KUBETUNE_TLS_MANAGE, value: {{ ternary "true" "false" (eq (include "kubetune.tlsManaged" .) "true") | quote }}}
- {name: KUBETUNE_TLS_HOSTS, value: {{ join "," (prepend .Values.tls.extraHosts (include "kubetune.gatewayHost" .)) | quote }}}
- {name: KUBETUNE_MAX_TRIALS, value: {{ include "kubetune.text" .Values.limits.trials | quote }}}
- {name: KUBETUNE_MAX_TRIALS_PER_NAMESPACE, value: {{ include "kubetune.text" .Values.limits.trialsPerNamespace | quote }}}
{{- range $name, $value := .Values.settings }}
- {name: KUBETUNE_{{ snakecase $name | upper }}, value: {{ include "kubetune.text" $value | quote }}}
{{- end }}
{{- with .Values.objectStorage }}
{{- if .endpoint }}
- {name: KUBETUNE_S3_ENDPOINT, value: {{ .endpoint | quote }}}
- {name: KUBETUNE_S3_BUCKET, value: {{ .bucket | quote }}}
- {name: KUBETUNE_S3_REGION, value: {{ .region | quote }}}
- {name: KUBETUNE_S3_PREFIX, value: {{ .prefix | quote }}}
- {name: KUBETUNE_S3_ACCESS_KEY, valueFrom: {secretKeyRef: {name: {{ .secretName | quote }}, key: accessKey}}}
- {name: KUBETUNE_S3_SECRET_KEY, valueFrom: {secretKeyRef: {name: {{ .secretName | quote }}, key: secretKey}}}
{{- end }}
{{- end }}
{{- with .Values.database.external }}
{{- if and .secretName .sslMode }}
- {name: PGSSLMODE, value: {{ .sslMode | quote }}}
{{- end }}
{{- if and .secretName .ca.secretName }}
- {name: PGSSLROOTCERT, value: /etc/kubetune/database-ca/ca.crt}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "kubetune.databaseVolumes" -}}
- name: database
  secret:
    secretName: {{ include "kubetune.databaseSecret" . | quote }}
    defaultMode: 0440
    items: [{key: {{ ternary "url" .Values.database.external.urlKey .Values.postgresql.enabled | quote }}, path: url}]
{{- with .Values.database.external }}
{{- if and .secretName .ca.secretName }}
- name: database-ca
  secret:
    secretName: {{ .ca.secretName | quote }}
    defaultMode: 0440
    items: [{key: {{ .ca.key | quote }}, path: ca.crt}]
{{- end }}
{{- end }}
{{- end -}}

{{- define "kubetune.databaseMounts" -}}
- {name: database, mountPath: /etc/kubetune/database, readOnly: true}
{{- with .Values.database.external }}
{{- if and .secretName .ca.secretName }}
- {name: database-ca, mountPath: /etc/kubetune/database-ca, readOnly: true}
{{- end }}
{{- end }}
- {name: tmp, mountPath: /tmp}
{{- end -}}

{{- define "kubetune.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "kubetune.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- /* Where pods of a component go. Call with (list $ component-values). */ -}}
{{- define "kubetune.placement" -}}
{{- $ := index . 0 -}}{{- $own := index . 1 -}}
{{- with $.Values.imagePullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
{{- with $own.nodeSelector | default $.Values.nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with $own.tolerations | default $.Values.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- with $own.affinity | default $.Values.affinity }}
affinity: {{ toJson . }}
{{- end }}
{{- with $own.priorityClassName | default $.Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- end -}}

{{- /* Rules of a role, in each watched namespace or cluster-wide. Call with (list $ component account rules). */ -}}
{{- define "kubetune.watchRole" -}}
{{- $ := index . 0 -}}{{- $component := index . 1 -}}{{- $account := index . 2 -}}{{- $rules := index . 3 -}}
{{- $name := printf "%s-%s" (include "kubetune.clusterName" $) $component -}}
{{- range $namespace := $.Values.watchNamespaces | default (list "") }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ ternary "Role" "ClusterRole" (ne $namespace "") }}
metadata:
  name: {{ $name }}
  {{- if $namespace }}
  namespace: {{ $namespace }}
  {{- end }}
  labels: {{- include "kubetune.labels" $ | nindent 4 }}
    app.kubernetes.io/component: {{ $component }}
rules: {{- $rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ ternary "RoleBinding" "ClusterRoleBinding" (ne $namespace "") }}
metadata:
  name: {{ $name }}
  {{- if $namespace }}
  namespace: {{ $namespace }}
  {{- end }}
  labels: {{- include "kubetune.labels" $ | nindent 4 }}
    app.kubernetes.io/component: {{ $component }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: {{ ternary "Role" "ClusterRole" (ne $namespace "") }}, name: {{ $name }}}
subjects: [{kind: ServiceAccount, name: {{ $account }}, namespace: {{ $.Release.Namespace }}}]
{{- end }}
{{- end -}}
