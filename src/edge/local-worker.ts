/**
 * The Worker for a machine of its own: all of the deployed one, and the objects that only run there. See
 * volatile/object-named.ts.
 *
 * @module
 */
import { Meter } from "./admission/meter.ts";

export { Clock } from "./volatile/clock.ts";
export * from "./worker.ts";
export { default } from "./worker.ts";

/** The Meter of a principal or source, without storage. */
export class ConnectionMeter extends Meter {}
