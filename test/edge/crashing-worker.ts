/** The edge's worker, with an object that can be told to lose its memory. */
import worker, { Tunnel as Lasting } from "../../src/edge/worker.ts";

export { Meter } from "../../src/edge/worker.ts";
export default worker;

export class Tunnel extends Lasting {
  async crash(): Promise<void> {
    this.ctx.abort("told to crash");
  }
}
