{{/* The pods of the Deployment. */}}
{{- define "rpcregistry.pod" -}}
{{- $zookeeper := .Values.zookeeper }}
{{- $secrets := list }}
{{- range $name := list "auth" "tls" }}
{{- with (index $zookeeper $name).existingSecret }}
{{- $secrets = append $secrets (dict "name" $name "secret" .) }}
{{- end }}
{{- end }}
{{- $mounts := or $secrets .Values.templates .Values.extraVolumeMounts }}
serviceAccountName: {{ include "rpcregistry.serviceAccountName" . }}
automountServiceAccountToken: true
enableServiceLinks: false # a Service must not set RPCREGISTRY_… variables, which are settings
terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if kindIs "slice" .Values.topologySpreadConstraints }}
{{- with .Values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 0 }}
{{- end }}
{{- else }}
topologySpreadConstraints:
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- topologyKey: {{ . }}
  maxSkew: 1
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "rpcregistry.selectorLabels" $ | nindent 6 }}
{{- end }}
{{- end }}
{{- with concat .Values.imagePullSecrets (.Values.global.imagePullSecrets | default list) }}
imagePullSecrets:
{{- toYaml . | nindent 0 }}
{{- end }}
{{- range $field := list "nodeSelector" "tolerations" "affinity" "priorityClassName"
  "runtimeClassName" "hostAliases" "dnsPolicy" "dnsConfig" "initContainers" }}
{{- with index $.Values $field }}
{{- dict $field . | toYaml | nindent 0 }}
{{- end }}
{{- end }}
containers:
- name: rpcregistry
  image: {{ include "rpcregistry.image" . | quote }}
  {{- with .Values.image.pullPolicy }}
  imagePullPolicy: {{ . }}
  {{- end }}
  args: {{ concat (list "run") .Values.extraArgs | toJson }}
  env: # all settings: rpcregistry run --help
  {{- range $name, $value := include "rpcregistry.settings" . | fromYaml }}
  - name: {{ $name }}
    value: {{ $value | quote }}
  {{- end }}
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with .Values.envFrom }}
  envFrom:
  {{- toYaml . | nindent 2 }}
  {{- end }}
  ports:
  - name: http
    containerPort: 8080
  {{- if eq .Values.ui.auth "kubernetes" }}
  - name: page
    containerPort: {{ regexFind "[0-9]+$" .Values.ui.bindAddress | default 8081 }}
  {{- end }}
  {{- range $field := list "livenessProbe" "readinessProbe" "resources" "securityContext" }}
  {{- with index $.Values $field }}
  {{- dict $field . | toYaml | nindent 2 }}
  {{- end }}
  {{- end }}
  {{- if $mounts }}
  volumeMounts:
  {{- range $secrets }}
  - name: zookeeper-{{ .name }}
    mountPath: /etc/zookeeper-access/{{ .name }} # no subPath: that would never change
    readOnly: true
  {{- end }}
  {{- if .Values.templates }}
  - name: templates
    mountPath: /etc/rpcregistry/templates
    readOnly: true
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- end }}
{{- with .Values.extraContainers }}
{{- toYaml . | nindent 0 }}
{{- end }}
{{- if or $secrets .Values.templates .Values.extraVolumes }}
volumes:
{{- range $secrets }}
- name: zookeeper-{{ .name }}
  secret:
    secretName: {{ .secret }}
{{- end }}
{{- if .Values.templates }}
- name: templates
  configMap:
    name: {{ include "rpcregistry.fullname" . }}-templates
{{- end }}
{{- with .Values.extraVolumes }}
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}
{{- end }}
