/**
 * Mailbox: the durable queue of one peer, an object named by the peer's URL, and the only owner of what waits for it.
 *
 *   Tunnel of a sender ── append(batch) ─► log (durable) ─► acknowledgement
 *   log ── deliver(messages), within a window ─► Tunnel of the consumer ── acknowledge(seq) ─► log is cut
 *
 * One consumer, fenced by generation: the newest attach wins, and nothing that an older one says is heard. The object
 * may vanish at any await: the log, the consumer and the generation are in SQLite; how far the consumer has been sent to
 * is not, so it is sent again what it did not acknowledge, and its Tunnel knows by number what it has.
 *
 * @module
 */
import { DurableObject } from "cloudflare:workers";
import { SEND_WINDOW, SEND_WINDOW_MESSAGES } from "./defaults.ts";
import { DIRECTORY } from "./directory.ts";
import type { Env } from "./env.ts";
import type { Mail } from "./segment.ts";
import { MailboxStore, type Numbered, type Outcome, type Waiting } from "./store.ts";

/** Why a mailbox did not keep or deliver a message; counted by these names. */
export const DROPS = [
  "DuplicateMessage",
  "QuotaWouldBeExceeded",
  "LockedOut",
  "PeerOffline",
  "Expired",
  "Purged",
] as const;
export type Drop = (typeof DROPS)[number];

/** A message as it is delivered; number 0 is one with flag D, which is nowhere kept. */
export type Delivery = Numbered;

/** What an operator sees of a mailbox. */
export interface MailboxStatus extends Waiting {
  readonly peer: string;
  /** The Tunnel that consumes it, by its GUID; undefined when nobody does. */
  readonly consumer: string | undefined;
  readonly generation: number;
  readonly locked: boolean;
  readonly dropped: Readonly<Record<Drop, number>>;
  /** Rows written since the object woke. */
  readonly rowsWritten: number;
}

interface Consumer {
  readonly tunnel: string;
  readonly generation: number;
}

export class Mailbox extends DurableObject<Env> {
  readonly #store: MailboxStore;
  #consumer: Consumer | undefined;
  /** The last message sent to the consumer, and what it was sent and has not acknowledged. */
  #sent: number;
  #flying: { readonly seq: number; readonly size: number }[] = [];
  #flyingOctets = 0;
  #pushing = false;
  #locked: boolean;
  /** Messages with flag D that nobody took, and that are not in the counts of the log: they touch no table. */
  #offline = 0;

  constructor(context: DurableObjectState, env: Env) {
    super(context, env);
    const { storage } = context;
    this.#store = new MailboxStore(storage.sql, (run) => storage.transactionSync(run));
    const consumer = this.#store.fact("consumer");
    this.#consumer = consumer === undefined ? undefined : ((JSON.parse(consumer) as Consumer | null) ?? undefined);
    this.#sent = this.#store.position;
    this.#locked = this.#store.fact("locked") === "1";
  }

  /** Takes messages of one source, in order, and tells what became of each. What is told is durable. */
  async append(batch: readonly Mail[]): Promise<Outcome[]> {
    this.#enter();
    if (this.#locked) {
      this.#count("LockedOut", batch.length);
      return batch.map(() => "locked");
    }
    const outcomes = this.#store.append(batch, Date.now());
    this.#count("DuplicateMessage", outcomes.filter((outcome) => outcome === "duplicate").length);
    this.#count("QuotaWouldBeExceeded", outcomes.filter((outcome) => outcome === "quota").length);
    await this.#setAlarm();
    this.#push();
    return outcomes;
  }

  /** Hands messages with flag D to the consumer, if there is one; they are never written down. */
  async pass(batch: readonly Mail[]): Promise<void> {
    const consumer = this.#consumer;
    const taken =
      consumer === undefined
        ? false
        : await this.#deliver(
            consumer,
            batch.map((mail) => ({ seq: 0, mail })),
          );
    if (taken) return;
    this.#offline += batch.length;
    if (consumer !== undefined && this.#consumer === consumer) this.#setConsumer(undefined);
  }

  /** The Tunnel consumes this mailbox from now on; whoever did before is told. */
  async attach(tunnel: string): Promise<{ readonly generation: number }> {
    this.#enter();
    const before = this.#consumer;
    const generation = Number(this.#store.fact("generation") ?? 0) + 1;
    this.#store.setFact("generation", String(generation));
    this.#setConsumer({ tunnel, generation });
    this.#countOffline();
    if (before !== undefined && before.tunnel !== tunnel) {
      // Nobody waits for it: the older Tunnel cannot read or acknowledge any more in any case.
      this.ctx.waitUntil(
        this.#tunnel(before)
          .fenced(this.#peer, before.generation)
          .catch(() => undefined),
      );
    }
    return { generation };
  }

  /** The consumer may be sent to: it has taken note of its generation. */
  async ready(generation: number): Promise<void> {
    if (this.#consumer?.generation === generation) this.#push();
  }

  /** The Tunnel's virtual connection is over. */
  async detach(generation: number): Promise<void> {
    if (this.#consumer?.generation === generation) this.#setConsumer(undefined);
  }

  /** The consumer has processed everything up to `seq`. False when it is no longer the consumer. */
  async acknowledge(generation: number, seq: number): Promise<boolean> {
    if (this.#consumer?.generation !== generation) return false;
    this.#store.remove(seq);
    const still = this.#flying.findIndex((message) => message.seq > seq);
    for (const { size } of this.#flying.splice(0, still < 0 ? this.#flying.length : still)) this.#flyingOctets -= size;
    this.#sent = Math.max(this.#sent, seq);
    this.#push();
    return true;
  }

  async status(): Promise<MailboxStatus> {
    const dropped = this.#dropped();
    return {
      peer: this.#peer,
      ...this.#store.waiting(),
      consumer: this.#consumer?.tunnel,
      generation: Number(this.#store.fact("generation") ?? 0),
      locked: this.#locked,
      dropped: { ...dropped, PeerOffline: dropped.PeerOffline + this.#offline },
      rowsWritten: this.#store.rowsWritten,
    };
  }

  /** Removes all that waits. Returns how many messages that were. */
  async purge(): Promise<number> {
    const purged = this.#store.purge();
    this.#count("Purged", purged);
    return purged;
  }

  /** Locks senders out, or lets them in again. What waits stays. */
  async setLocked(locked: boolean): Promise<void> {
    this.#locked = locked;
    this.#store.setFact("locked", locked ? "1" : "0");
  }

  override async alarm(): Promise<void> {
    this.#countOffline();
    this.#count("Expired", this.#store.expire(Date.now()));
    await this.#setAlarm();
  }

  /** Shows itself to operators, once. */
  #enter(): void {
    if (this.#store.fact("entered") === "1") return;
    this.#store.setFact("entered", "1");
    this.ctx.waitUntil(
      this.env.DIRECTORY.getByName(DIRECTORY)
        .enter(this.#peer)
        .catch(() => undefined),
    );
  }

  get #peer(): string {
    return this.ctx.id.name ?? "";
  }

  #tunnel(consumer: Consumer) {
    return this.env.TUNNEL.getByName(consumer.tunnel);
  }

  #setConsumer(consumer: Consumer | undefined): void {
    this.#consumer = consumer;
    this.#store.setFact("consumer", JSON.stringify(consumer ?? null));
    this.#sent = this.#store.position;
    this.#flying = [];
    this.#flyingOctets = 0;
  }

  /** Sends what the window allows. One push runs at a time; the platform keeps it back until what it sends is durable. */
  #push(): void {
    if (this.#pushing || this.#consumer === undefined) return;
    this.#pushing = true;
    this.ctx.waitUntil(
      this.#pushAll().finally(() => {
        this.#pushing = false;
      }),
    );
  }

  async #pushAll(): Promise<void> {
    for (;;) {
      const consumer = this.#consumer;
      if (consumer === undefined) return;
      const octets = SEND_WINDOW - this.#flyingOctets;
      const count = SEND_WINDOW_MESSAGES - this.#flying.length;
      if (octets <= 0 || count <= 0) return;
      const messages = this.#store.read(this.#sent, octets, count);
      const last = messages.at(-1);
      if (last === undefined) return;
      // One that is larger than what is left of the window waits for it to be empty.
      if (this.#flying.length > 0 && (messages[0]?.mail.body.length ?? 0) > octets) return;
      this.#sent = last.seq;
      for (const { seq, mail } of messages) {
        this.#flying.push({ seq, size: mail.body.length });
        this.#flyingOctets += mail.body.length;
      }
      const taken = await this.#deliver(consumer, messages);
      if (!taken && this.#consumer === consumer) this.#setConsumer(undefined);
    }
  }

  async #deliver(consumer: Consumer, messages: readonly Delivery[]): Promise<boolean> {
    try {
      return await this.#tunnel(consumer).deliver(this.#peer, consumer.generation, messages);
    } catch {
      // The Tunnel has vanished, and its virtual connection with it.
      return false;
    }
  }

  async #setAlarm(): Promise<void> {
    const due = this.#store.expiry();
    if (due === undefined) return;
    const set = await this.ctx.storage.getAlarm();
    if (set === null) await this.ctx.storage.setAlarm(due);
  }

  /** Writes down how many found nobody, when there is a write in any case. */
  #countOffline(): void {
    this.#count("PeerOffline", this.#offline);
    this.#offline = 0;
  }

  #dropped(): Record<Drop, number> {
    const none = Object.fromEntries(DROPS.map((drop) => [drop, 0])) as Record<Drop, number>;
    return { ...none, ...(JSON.parse(this.#store.fact("dropped") ?? "{}") as Partial<Record<Drop, number>>) };
  }

  #count(drop: Drop, number: number): void {
    if (number === 0) return;
    const dropped = this.#dropped();
    dropped[drop] += number;
    this.#store.setFact("dropped", JSON.stringify(dropped));
  }
}
