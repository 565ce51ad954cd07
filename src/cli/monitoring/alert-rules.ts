/**
 * Alert rules for a Prometheus that scrapes edges: what an operator wants to know before users do.
 *
 * @module
 */

export interface Alert {
  readonly name: string;
  readonly expression: string;
  /** How long it must hold, as Prometheus writes times. */
  readonly for: string;
  readonly severity: "critical" | "warning";
  readonly summary: string;
  /** What to do. */
  readonly cure: string;
}

/** Losses that a device or an operator has to do something about; the others are part of normal use. */
const LOSSES = ["Expired", "QuotaWouldBeExceeded", "StorageFull", "DirectoryUnavailable", "RefusedByPeer"];

/** Refusals that are faults of the edge. */
const FAULTS = ["InternalError", "NewerSchema", "EdgeMisconfigured"];

/** The job of Prometheus that scrapes the edges. */
const JOB = 'job="grooveway"';

export const ALERTS: readonly Alert[] = [
  {
    name: "GroovewayDown",
    expression: `up{${JOB}} == 0`,
    for: "2m",
    severity: "critical",
    summary: "The edge {{ $labels.instance }} does not answer.",
    cure: "Look at its log. If it answers /health, the token of the scraper may have expired (scope metrics).",
  },
  {
    name: "GroovewayStorageFull",
    expression: "grooveway_storage_full == 1",
    for: "1m",
    severity: "critical",
    summary: "The disk of {{ $labels.instance }} is nearly full: it refuses new messages.",
    cure: "Free disk space; what waits can still be fetched, and purged with grooveway mailbox purge.",
  },
  {
    name: "GroovewayKeysFailing",
    expression: "grooveway_keys_failing == 1",
    for: "5m",
    severity: "critical",
    summary:
      "{{ $labels.instance }} cannot fetch the keys of tokens: an hour after the last success it admits no device.",
    cure: "Check JWKS_URL and REVOKED_URL; the log says why they fail (KeysUnavailable).",
  },
  {
    name: "GroovewayLinkDown",
    expression: 'grooveway_links{state="failed"} > 0',
    for: "5m",
    severity: "warning",
    summary: "{{ $labels.instance }} cannot connect to {{ $value }} origin relays.",
    cure: "GET /admin/links/{relay} says why, and what to do.",
  },
  {
    name: "GroovewayMessagesLost",
    expression: `sum by (instance, reason) (increase(grooveway_messages_dropped_total{reason=~"${LOSSES.join("|")}"}[15m])) > 0`,
    for: "0m",
    severity: "warning",
    summary: "{{ $labels.instance }} has dropped messages: {{ $labels.reason }}.",
    cure: "The README says under Drops what the reason means; grooveway mailbox ls shows what waits for whom.",
  },
  {
    name: "GroovewayFaults",
    expression: `sum by (instance, reason) (increase(grooveway_requests_refused_total{reason=~"${FAULTS.join("|")}"}[10m]) + increase(grooveway_connections_closed_total{reason=~"${FAULTS.join("|")}"}[10m])) > 0`,
    for: "0m",
    severity: "warning",
    summary: "{{ $labels.instance }} has faults of its own: {{ $labels.reason }}.",
    cure: "Its log has the error; please report what is no setting of yours.",
  },
];

/** Writes the rules as YAML. */
export function alertRules(): string {
  const rules = ALERTS.map(
    ({ name, expression, for: duration, severity, summary, cure }) => `      - alert: ${name}
        expr: ${JSON.stringify(expression)}
        for: ${duration}
        labels:
          severity: ${severity}
        annotations:
          summary: ${JSON.stringify(summary)}
          description: ${JSON.stringify(cure)}
`,
  );
  return `groups:\n  - name: grooveway\n    rules:\n${rules.join("")}`;
}
