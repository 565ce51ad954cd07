/**
 * OperatorSessions: who has signed in to the status page. There is one such object. It never sees the id of a session,
 * only a hash of it, so what is on its disk opens nothing.
 *
 *   attempt ─► begin ─► find, take ... ─► end, or SESSION_LIFE
 *
 * A session ends with its token too; the Worker judges that at each request, from what `find` returns.
 *
 * @module
 */
import { DurableObject } from "cloudflare:workers";
import { type Bucket, bucket, giveBack, take, wait } from "../../lib/token-bucket.ts";
import type { Env } from "../env.ts";
import type { OperatorSessionsRpc, SignedIn, Try } from "../rpc/operator-sessions-rpc.ts";
import {
  FORM_LIFE,
  SENT_FORMS,
  SESSION_LIFE,
  SESSIONS,
  SIGN_IN_RATE,
  SIGN_IN_SOURCES,
  SIGN_IN_TRIES,
} from "./limits.ts";

/** Prefix of the keys of sessions. */
const SESSION = "session:";

interface Session {
  readonly signedIn: SignedIn;
  /** Milliseconds since 1970. */
  readonly until: number;
  /** Forms that were taken, and when. */
  readonly taken: readonly (readonly [form: string, at: number])[];
}

export class OperatorSessions extends DurableObject<Env> implements OperatorSessionsRpc {
  /** Tries of each source, the oldest source first. They are lost with memory, long after a source has its tries back. */
  readonly #tries = new Map<string, Bucket>();

  async attempt(source: string): Promise<Try> {
    const now = Date.now();
    const tries = this.#tries.get(source) ?? bucket(SIGN_IN_RATE, SIGN_IN_TRIES, now);
    this.#tries.delete(source);
    this.#tries.set(source, tries);
    for (const oldest of this.#tries.keys()) {
      if (this.#tries.size <= SIGN_IN_SOURCES) break;
      this.#tries.delete(oldest);
    }
    if (take(tries, 1, now)) return { type: "ok" };
    return { type: "wait", retryAfter: Math.ceil(wait(tries, 1, now) / 1000) };
  }

  async begin(session: string, signedIn: SignedIn, source: string): Promise<void> {
    const now = Date.now();
    const tries = this.#tries.get(source);
    if (tries !== undefined) giveBack(tries, 1, now);
    const before = this.#current(now);
    for (const [oldest] of before.slice(0, Math.max(0, before.length + 1 - SESSIONS))) this.#delete(oldest);
    this.ctx.storage.kv.put<Session>(SESSION + session, { signedIn, until: now + SESSION_LIFE, taken: [] });
    await this.#setAlarm();
  }

  async find(session: string): Promise<SignedIn | undefined> {
    return this.#session(session, Date.now())?.signedIn;
  }

  async take(session: string, form: string): Promise<boolean> {
    const now = Date.now();
    const found = this.#session(session, now);
    if (found === undefined) return false;
    const taken = found.taken.filter(([, at]) => Math.abs(now - at) < FORM_LIFE);
    if (taken.some(([known]) => known === form) || taken.length >= SENT_FORMS) return false;
    this.ctx.storage.kv.put<Session>(SESSION + session, { ...found, taken: [...taken, [form, now]] });
    return true;
  }

  async end(session: string): Promise<void> {
    this.#delete(session);
    await this.#setAlarm();
  }

  override async alarm(): Promise<void> {
    await this.#setAlarm();
  }

  #session(session: string, now: number): Session | undefined {
    const found = this.ctx.storage.kv.get<Session>(SESSION + session);
    return found !== undefined && isCurrent(found, now) ? found : undefined;
  }

  /** Sessions, the first to end first. Those that are over are deleted. */
  #current(now: number): [name: string, session: Session][] {
    const all = [...this.ctx.storage.kv.list<Session>({ prefix: SESSION })];
    const named = all.map(([key, session]) => [key.slice(SESSION.length), session] as [string, Session]);
    for (const [name, session] of named) if (!isCurrent(session, now)) this.#delete(name);
    return named.filter(([, session]) => isCurrent(session, now)).sort(([, one], [, other]) => one.until - other.until);
  }

  #delete(session: string): void {
    this.ctx.storage.kv.delete(SESSION + session);
  }

  /** Wakes this object when the next session is over. Without sessions nothing is left here. */
  async #setAlarm(): Promise<void> {
    const [first] = this.#current(Date.now());
    if (first !== undefined) return this.ctx.storage.setAlarm(first[1].until);
    await this.ctx.storage.deleteAlarm();
    await this.ctx.storage.deleteAll();
  }
}

/** Whether a session has not ended. After a clock was set back, none lasts longer than it would have. */
function isCurrent({ until }: Session, now: number): boolean {
  return now < until && until - now <= SESSION_LIFE;
}
