{{/* The name of all objects. */}}
{{- define "rpcregistry.fullname" -}}
{{- $release := contains "rpcregistry" .Release.Name | ternary .Release.Name (printf "%s-rpcregistry" .Release.Name) }}
{{- .Values.fullnameOverride | default $release | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "rpcregistry.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace }}
{{- end }}

{{- define "rpcregistry.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "rpcregistry.fullname" .) "default") }}
{{- end }}

{{- define "rpcregistry.selectorLabels" -}}
app.kubernetes.io/name: rpcregistry
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The labels of all objects; those of commonLabels do not replace ours. */}}
{{- define "rpcregistry.labels" -}}
{{- $ours := dict
  "app.kubernetes.io/name" "rpcregistry"
  "app.kubernetes.io/instance" .Release.Name
  "app.kubernetes.io/version" .Chart.AppVersion
  "app.kubernetes.io/managed-by" .Release.Service
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version) }}
{{- merge $ours .Values.commonLabels | toYaml }}
{{- end }}

{{/* Metadata of an object of the release's namespace. Argument: the root, and what follows the name. */}}
{{- define "rpcregistry.metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "rpcregistry.fullname" $root }}{{ index . 1 }}
namespace: {{ include "rpcregistry.namespace" $root }}
labels:
  {{- include "rpcregistry.labels" $root | nindent 2 }}
{{- end }}

{{- define "rpcregistry.image" -}}
{{- with .Values.image }}
{{- with $.Values.global.imageRegistry }}{{ . }}/{{ end }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* The settings that differ from the flags' defaults: by variable its value. */}}
{{- define "rpcregistry.settings" -}}
{{- $values := .Values }}
{{- $zookeeper := $values.zookeeper }}
{{- $templates := list }}
{{- range $name := keys $values.templates | sortAlpha }}
{{- $templates = append $templates (printf "%s=/etc/rpcregistry/templates/%s.yaml" $name $name) }}
{{- end }}
{{- $labels := list }}
{{- range $key, $value := $values.generatedLabels }}
{{- $labels = append $labels (printf "%s=%s" $key $value) }}
{{- end }}
{{- $settings := dict
  "ZK_SERVERS" (required "zookeeper.servers is required: HOST:PORT,…[/CHROOT]" $zookeeper.servers)
  "ZK_ACL" $zookeeper.acl
  "LAYOUT" (join " " $values.layouts)
  "TEMPLATE" (join " " $templates)
  "NAMESPACE" (join " " $values.namespaces)
  "POD_LABEL_SELECTOR" $values.podLabelSelector
  "CLUSTER_ID" $values.clusterId
  "FROM_CLUSTER" $values.fromCluster
  "CROSS_NAMESPACE" $values.crossNamespace
  "ADOPT" $values.adopt
  "POLICY" $values.policy
  "GENERATED_LABELS" (join "," $labels)
  "ENDPOINTS_PER_OBJECT" $values.endpointsPerObject
  "SERVICES_PER_NAMESPACE" $values.servicesPerNamespace
  "MAX_ZNODE_BYTES" $values.maxZnodeBytes
  "BATCH_WINDOW" $values.batchWindow
  "RESYNC_PERIOD" $values.resyncPeriod
  "COMPARE_PERIOD" $values.comparePeriod
  "GUARD_CONFIRM" $values.guardConfirm
  "OWNERSHIP_GRACE" $values.ownershipGrace
  "LEASE_NAMESPACE" $values.leaseNamespace
  "LOG_LEVEL" $values.logLevel
  "LOG_FORMAT" $values.logFormat }}
{{- with $values.ui }}
{{- $_ := set $settings "UI_BIND_ADDRESS" (.bindAddress | default (eq .auth "kubernetes" | ternary "0.0.0.0:8081" "")) }}
{{- $_ := set $settings "UI_AUTH" .auth }}
{{- $_ := set $settings "UI_HOST" (join " " .hosts) }}
{{- if .insecure }}
{{- $_ := set $settings "UI_INSECURE" "true" }}
{{- end }}
{{- end }}
{{- if ne (len (uniq $values.controllers)) 3 }}
{{- $_ := set $settings "CONTROLLERS" (join "," $values.controllers) }}
{{- end }}
{{- if ne $values.nodeLabel "rpcregistry.dev/node" }}
{{- $_ := set $settings "NODE_LABEL" $values.nodeLabel }}
{{- end }}
{{- if $values.requireRegisterPermission }}
{{- $_ := set $settings "REQUIRE_REGISTER_PERMISSION" "true" }}
{{- end }}
{{- if not $values.leaderElect }}
{{- $_ := set $settings "LEADER_ELECT" "false" }}
{{- end }}
{{- if $values.dryRun }}
{{- $_ := set $settings "DRY_RUN" "true" }}
{{- end }}
{{- if $zookeeper.auth.existingSecret }}
{{- $_ := set $settings "ZK_AUTH_FILE" (printf "/etc/zookeeper-access/auth/%s" $zookeeper.auth.key) }}
{{- $_ := set $settings "ZK_AUTH_SCHEME" $zookeeper.auth.scheme }}
{{- end }}
{{- if $zookeeper.tls.existingSecret }}
{{- range $name, $key := dict "CA" $zookeeper.tls.caKey "CERT" $zookeeper.tls.certKey "KEY" $zookeeper.tls.keyKey }}
{{- if $key }}
{{- $_ := set $settings (printf "ZK_TLS_%s" $name) (printf "/etc/zookeeper-access/tls/%s" $key) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $name, $value := $settings }}
{{- if $value }}
{{ printf "RPCREGISTRY_%s" $name }}: {{ toString $value | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* The rules of a role in deploy/kustomize. Argument: the root, the kind, the name. */}}
{{- define "rpcregistry.rules" -}}
{{- $files := (index . 0).Files }}
{{- range splitList "\n---\n" (print ($files.Get "files/base/rbac.yaml") "\n---\n" ($files.Get "files/page/rbac.yaml")) }}
{{- $object := fromYaml . }}
{{- if and (eq $object.kind (index $ 1)) (eq $object.metadata.name (index $ 2)) }}
{{- dict "rules" $object.rules | toYaml }}
{{- end }}
{{- end }}
{{- end }}

{{/* Roles of the namespaces that it serves: names without the release's. */}}
{{- define "rpcregistry.served" -}}
services{{ if has "localservice" .Values.controllers }},localservices{{ end }}
{{- end }}

{{- define "rpcregistry.subjects" -}}
subjects:
- kind: ServiceAccount
  name: {{ include "rpcregistry.serviceAccountName" . }}
  namespace: {{ include "rpcregistry.namespace" . }}
{{- end }}
