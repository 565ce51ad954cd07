/**
 * Clock: rings the alarms of objects without storage, which the platform does not. There is one, and only where the edge has
 * a machine of its own. Its timer keeps it in memory while there are alarms, so the objects need not stay there.
 *
 * @module
 */
import { DurableObject } from "cloudflare:workers";
import { within } from "../../lib/runtime/timeout.ts";
import type { Env } from "../env.ts";
import { logError } from "../log.ts";
import type { ClockRpc } from "../rpc/clock-rpc.ts";
import { meterNamed, tunnelNamed } from "./object-named.ts";
import { alarms, ownerOf } from "./object-storage.ts";

/** Longest time between two looks, in milliseconds: a clock that was set forward is noticed so soon. */
const LONGEST = 30_000;

/** Alarms that ring at the same time: each may wake an object, and after a pause of the machine all may be due. */
const AT_ONCE = 64;

/** Milliseconds that the others wait for an object at most. It goes on with its work. */
const RING_TIMEOUT = 10_000;

/** Milliseconds after which an alarm that has failed rings again, as the platform's first repetition. */
const RETRY = 2000;

export class Clock extends DurableObject<Env> implements ClockRpc {
  #timer: ReturnType<typeof setTimeout> | undefined;

  async look(): Promise<void> {
    clearTimeout(this.#timer);
    const wait = alarms.plan(Date.now(), LONGEST);
    if (wait !== undefined) this.#timer = setTimeout(() => this.ctx.waitUntil(this.#ring()), wait);
  }

  async #ring(): Promise<void> {
    const due = alarms.take(Date.now());
    await this.look();
    for (let at = 0; at < due.length; at += AT_ONCE) {
      await Promise.all(due.slice(at, at + AT_ONCE).map((key) => this.#ringOne(key)));
    }
  }

  async #ringOne(key: string): Promise<void> {
    const { kind, name } = ownerOf(key);
    try {
      const owner = kind === "TUNNEL" ? tunnelNamed(this.env, name) : meterNamed(this.env, name);
      await within(RING_TIMEOUT, owner.alarmDue());
    } catch (error) {
      logError(error);
      const now = Date.now();
      // It may have set another one meanwhile.
      if (alarms.of(key) === undefined && alarms.set(key, now + RETRY, now)) await this.look();
    }
  }
}
