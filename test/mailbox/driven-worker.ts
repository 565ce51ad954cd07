/** The edge's worker, with a clock that a test sets ahead, and Mailboxes whose alarm it rings. */
import worker, { Mailbox as Real } from "../../src/edge/worker.ts";

export { Directory, Link, Meter, Tunnel } from "../../src/edge/worker.ts";
export default worker;

const real = Date.now.bind(Date);
let ahead = 0;
Date.now = () => real() + ahead;

export class Mailbox extends Real {
  /** Lets time pass for all objects, and does what the alarm would do then. */
  async elapse(milliseconds: number): Promise<void> {
    ahead += milliseconds;
    await this.alarm();
  }
}
