/**
 * RPC interface of the Clock.
 *
 * @module
 */

export interface ClockRpc extends Rpc.DurableObjectBranded {
  /** Called when an alarm was set that is due before the next look. */
  look(): Promise<void>;
}

/** What answers to an alarm that the Clock rings. */
export interface AlarmRpc {
  alarmDue(): Promise<void>;
}
