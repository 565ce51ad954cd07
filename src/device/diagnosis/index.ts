/**
 * Diagnosis of the network between this machine and an edge or relay.
 *
 * @module
 */
export { STATUSES, type Status, type Verdict } from "./classify.ts";
export { type DiagnosedWay, type DiagnoseOptions, type Diagnosis, diagnose } from "./diagnose.ts";
export { CHECKS, type Check, type Finding } from "./findings.ts";
