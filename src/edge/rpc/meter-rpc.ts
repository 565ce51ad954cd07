/**
 * What a Meter answers to.
 *
 * @module
 */

/** Whether one more virtual connection may be; if not, in how many seconds it is worth another try. */
export type Entrance =
  | { readonly ok: true }
  | { readonly ok: false; readonly retryAfter: number; readonly limit: "connections" | "connects" | "halfOpen" };

/** An amount of each of what is metered by the second. */
export interface Amount {
  readonly octets: number;
  readonly messages: number;
}

/** What may be used, after `wait` milliseconds and within the `holds` that follow. */
export interface Lease extends Amount {
  readonly wait: number;
  readonly holds: number;
}

/** What is left of each limit, and what there is of what is counted one by one. */
export interface MeterStatus extends Amount {
  readonly connections: number;
  readonly connects: number;
  readonly halfOpen: number;
}

/** The object of one principal or source, named as meteredName says. */
export interface MeterRpc extends Rpc.DurableObjectBranded {
  enter(connection: string): Promise<Entrance>;
  leave(connection: string): Promise<void>;
  begin(connection: string): Promise<Entrance>;
  begun(connection: string): Promise<void>;
  lease(connection: string, wanted: Amount, unused: Amount): Promise<Lease>;
  status(): Promise<MeterStatus>;
}
