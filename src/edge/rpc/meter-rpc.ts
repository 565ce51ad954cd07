/**
 * RPC interface of a Meter.
 *
 * @module
 */

/** Whether one more virtual connection is allowed; if not, `retryAfter` seconds until another try may succeed. */
export type Entrance =
  | { readonly ok: true }
  | { readonly ok: false; readonly retryAfter: number; readonly limit: "connections" | "connects" | "halfOpen" };

/** Amounts of what is metered per second. */
export interface Amount {
  readonly octets: number;
  readonly messages: number;
}

/** An amount that may be used after `wait` milliseconds, and within the `holds` milliseconds that follow. */
export interface Lease extends Amount {
  readonly wait: number;
  readonly holds: number;
}

/** What is left of each rate, and the current counts of virtual connections. */
export interface MeterStatus extends Amount {
  readonly connections: number;
  readonly connects: number;
  readonly halfOpen: number;
}

/** The object of one principal or source; `meteredName` gives its name. */
export interface MeterRpc extends Rpc.DurableObjectBranded {
  enter(connection: string): Promise<Entrance>;
  leave(connection: string): Promise<void>;
  begin(connection: string): Promise<Entrance>;
  begun(connection: string): Promise<void>;
  lease(connection: string, wanted: Amount, unused: Amount): Promise<Lease>;
  status(): Promise<MeterStatus>;
}
