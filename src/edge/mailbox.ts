/**
 * Mailbox: the durable queue of one peer, an object named by the peer's URL, and the only owner of what waits for it.
 *
 *   Tunnel of a sender ── append(batch) ─► log (durable) ─► acknowledgement
 *   log ── deliver(messages), within a window ─► Tunnel of the consumer ── acknowledge(seq) ─► log is cut
 *
 * One consumer, fenced by generation. A Tunnel becomes it in two calls: `attach` gives it a generation, `ready` makes
 * it the consumer if it still wants to be and no newer one has come. From then on nothing that an older one says is
 * heard. A mailbox of an identity has several devices: when its consumer leaves, the one before is asked again.
 *
 * The object may vanish at any await: the log, the consumer and the generation are in SQLite; how far the consumer has
 * been sent to is not, so it is sent again what it did not acknowledge, and its Tunnel knows by number what it has.
 * Whatever may have been lost that way is found by an alarm, which is set as long as somebody should be reading.
 *
 * @module
 */
import { DurableObject } from "cloudflare:workers";
import { type Drop, type DropCounts, isRelay, noDrops } from "../sstp/index.ts";
import {
  DELIVER_TIMEOUT,
  FORMER_CONSUMERS,
  REFUSALS,
  RETRY_PAUSES,
  SEND_WINDOW,
  SEND_WINDOW_MESSAGES,
  WATCH_INTERVAL,
} from "./defaults.ts";
import { DIRECTORY } from "./directory.ts";
import type { Env } from "./env.ts";
import { EVERYONE, formatSenderRule, maySend, parseSenderRule, type SenderRule } from "./policy/senders.ts";
import type { Mail } from "./segment.ts";
import { MailboxStore, type Numbered, type Outcome, type Waiting } from "./store.ts";
import { within } from "./streams.ts";

/** A message as it is delivered; number 0 is one with flag D, which is nowhere kept. */
export type Delivery = Numbered;

/** What its consumer says: it has them, it has too many that nobody keeps, or it does not consume the mailbox (any more). */
export type Taken = "taken" | "busy" | "gone";

/** What an operator sees of a mailbox. */
export interface MailboxStatus extends Waiting {
  readonly peer: string;
  /** The Tunnel that consumes it, by its GUID; undefined when nobody does. */
  readonly consumer: string | undefined;
  readonly generation: number;
  /** Whether an operator has shut all senders out, whatever the rule says. */
  readonly locked: boolean;
  /** The owner's rule of who may send. */
  readonly senders: string;
  readonly dropped: DropCounts;
  /** Rows written since the object woke. */
  readonly rowsWritten: number;
}

/** What a mailbox asks of a Tunnel or a Link. */
interface Reader {
  deliver(peer: string, generation: number, messages: readonly Delivery[]): Promise<Taken>;
  fenced(peer: string, generation: number): Promise<boolean>;
  recall(peer: string): Promise<boolean>;
}

interface Consumer {
  readonly tunnel: string;
  readonly generation: number;
}

/** A message that its consumer has refused, and how often. */
interface Refused {
  readonly seq: number;
  readonly times: number;
}

export class Mailbox extends DurableObject<Env> {
  readonly #store: MailboxStore;
  #consumer: Consumer | undefined;
  /** Tunnels that consumed it before, are still there and would again; the newest is the last. */
  #former: readonly string[];
  #refused: Refused | undefined;
  /** The last message sent to the consumer, and what it was sent and has not acknowledged. */
  #sent: number;
  #flying: { readonly seq: number; readonly size: number }[] = [];
  #flyingOctets = 0;
  /** The consumer that is being sent to. A call to one before may hang: it must not hold up the next. */
  #pushing: Consumer | undefined;
  #locked: boolean;
  #senders: SenderRule;
  #entered: boolean;
  /** When the alarm is set for, as far as this memory knows. */
  #alarmAt: number | undefined;
  /** What was dropped and touches no table: it is written down with the next write. */
  #untold = noDrops();

  constructor(context: DurableObjectState, env: Env) {
    super(context, env);
    const { storage } = context;
    this.#store = new MailboxStore(storage.sql, (run) => storage.transactionSync(run));
    this.#consumer = this.#kept<Consumer>("consumer");
    this.#former = this.#kept<string[]>("former") ?? [];
    this.#refused = this.#kept<Refused>("refused");
    this.#sent = this.#store.position;
    this.#locked = this.#store.fact("locked") === "1";
    const senders = this.#store.fact("senders");
    this.#senders = senders === undefined ? EVERYONE : parseSenderRule(senders);
    this.#entered = this.#store.fact("entered") === "1";
  }

  /** Takes messages of one source, in order, and tells what became of each. What is told is durable. */
  async append(batch: readonly Mail[]): Promise<Outcome[]> {
    this.#enter();
    const admitted = this.#admit(batch);
    if (admitted.length === 0) return batch.map(() => "locked");
    const outcomes = this.#store.append(admitted, Date.now());
    this.#count("DuplicateMessage", outcomes.filter((outcome) => outcome === "duplicate").length);
    this.#count("QuotaWouldBeExceeded", outcomes.filter((outcome) => outcome === "quota").length);
    await this.#setAlarm();
    this.#push();
    this.#call();
    return told(batch, admitted, outcomes);
  }

  /**
   * Hands messages with flag D to the consumer, if there is one; they are never written down. Tells of each whether its
   * sender may send here, and, when it is for an origin relay that is out of reach, why: of others nobody is told what
   * becomes of them.
   */
  async pass(batch: readonly Mail[]): Promise<Outcome[]> {
    const admitted = this.#admit(batch);
    const outcome = admitted.length > 0 ? await this.#pass(admitted) : "stored";
    return told(
      batch,
      admitted,
      admitted.map(() => outcome),
    );
  }

  async #pass(batch: readonly Mail[]): Promise<Outcome> {
    if (this.#consumer === undefined && this.#isRelay) {
      const reached = await this.env.LINK.getByName(this.#peer)
        .reach()
        .catch(() => "ConnectionClosed" as const);
      if (reached !== "connected") {
        this.#untold.PeerOffline += batch.length;
        return reached;
      }
    }
    const consumer = this.#consumer;
    const volatile = batch.map((mail) => ({ seq: 0, mail }));
    // One try: what is lost with a call that failed is lost by its sender's wish.
    const taken = consumer === undefined ? "gone" : ((await this.#deliver(consumer, volatile)) ?? "busy");
    if (taken === "busy") this.#untold.SlowPeer += batch.length;
    if (taken === "gone") {
      this.#untold.PeerOffline += batch.length;
      if (consumer !== undefined) this.#vacate(consumer);
    }
    return "stored";
  }

  /** A Tunnel wants to consume this mailbox. It says `ready` with the generation when it has taken note of it. */
  async attach(): Promise<{ readonly generation: number }> {
    this.#enter();
    const generation = Number(this.#store.fact("generation") ?? 0) + 1;
    this.#store.setFact("generation", String(generation));
    return { generation };
  }

  /** The Tunnel consumes this mailbox from now on; whoever did before is told. False when a newer one does. */
  async ready(tunnel: string, generation: number): Promise<boolean> {
    const before = this.#consumer;
    if (before !== undefined && before.generation >= generation) return before.generation === generation;
    this.#setConsumer({ tunnel, generation });
    this.#setFormer(this.#former.filter((former) => former !== tunnel));
    if (before !== undefined && before.tunnel !== tunnel) this.ctx.waitUntil(this.#fence(before));
    await this.#setAlarm();
    this.#push();
    return true;
  }

  /** The Tunnel's virtual connection is over. */
  async detach(generation: number): Promise<void> {
    if (this.#consumer?.generation === generation) this.#vacate(this.#consumer);
  }

  /**
   * The consumer has processed everything up to `seq`. False when it is no longer the consumer.
   *
   * @param refused how many of these its relay would not take for a recipient of its own
   */
  async acknowledge(generation: number, seq: number, refused = 0): Promise<boolean> {
    if (this.#consumer?.generation !== generation) return false;
    this.#store.remove(seq);
    this.#count("RefusedByPeer", refused);
    const still = this.#flying.findIndex((message) => message.seq > seq);
    for (const { size } of this.#flying.splice(0, still < 0 ? this.#flying.length : still)) this.#flyingOctets -= size;
    this.#sent = Math.max(this.#sent, seq);
    this.#push();
    return true;
  }

  /** The consumer's device will not take a message, and gives up its connection over it. */
  async refuse(generation: number, seq: number): Promise<void> {
    if (this.#consumer?.generation !== generation || seq <= this.#store.position) return;
    this.#setRefused({ seq, times: this.#refused?.seq === seq ? this.#refused.times + 1 : 1 });
  }

  async status(): Promise<MailboxStatus> {
    return {
      peer: this.#peer,
      ...this.#store.waiting(),
      consumer: this.#consumer?.tunnel,
      generation: Number(this.#store.fact("generation") ?? 0),
      locked: this.#locked,
      senders: formatSenderRule(this.#senders),
      dropped: this.#dropped(),
      rowsWritten: this.#store.rowsWritten,
    };
  }

  /** Removes all that waits. Returns how many messages that were. */
  async purge(): Promise<number> {
    const purged = this.#store.purge();
    this.#count("Purged", purged);
    return purged;
  }

  /** Locks all senders out, or lets those in again whom the rule lets in. What waits stays. */
  async setLocked(locked: boolean): Promise<void> {
    this.#locked = locked;
    this.#store.setFact("locked", locked ? "1" : "0");
  }

  /** Who may send from now on. What waits stays. @throws SenderRuleError */
  async setSenders(text: string): Promise<void> {
    const rule = parseSenderRule(text);
    this.#senders = rule;
    this.#store.setFact("senders", formatSenderRule(rule));
  }

  override async alarm(): Promise<void> {
    this.#alarmAt = undefined;
    this.#countVolatile();
    this.#count("Expired", this.#store.expire(Date.now()));
    await this.#setAlarm();
    this.#push();
    this.#call();
  }

  /** What of a batch may come in: the sender of each is held against the lock and the rule. The rest is counted. */
  #admit(batch: readonly Mail[]): readonly Mail[] {
    if (this.#locked) {
      this.#count("LockedOut", batch.length);
      return [];
    }
    if (this.#senders.kind === "everyone") return batch;
    const judged = new Map<string, boolean>();
    const admitted = batch.filter(({ source }) => {
      const may = judged.get(source) ?? maySend(this.#senders, source);
      judged.set(source, may);
      return may;
    });
    this.#count("SenderNotAllowed", batch.length - admitted.length);
    return admitted;
  }

  /** Shows itself to operators, again until the directory has heard of it. */
  #enter(): void {
    if (this.#entered) return;
    this.#entered = true;
    const entering = this.env.DIRECTORY.getByName(DIRECTORY)
      .enter(this.#peer)
      .then(
        () => this.#store.setFact("entered", "1"),
        () => {
          this.#entered = false;
        },
      );
    this.ctx.waitUntil(entering);
  }

  get #peer(): string {
    return this.ctx.id.name ?? "";
  }

  get #isRelay(): boolean {
    return isRelay(this.#peer);
  }

  /** A Link consumes the mailbox that has its own name; a relay that has connected by itself has a Tunnel, as devices do. */
  #reader(name: string): Reader {
    return name === this.#peer ? this.env.LINK.getByName(name) : this.env.TUNNEL.getByName(name);
  }

  /** A Link sleeps until there is something for its relay. */
  #call(): void {
    if (!this.#isRelay || this.#consumer !== undefined || this.#store.waiting().messages === 0) return;
    this.ctx.waitUntil(
      this.env.LINK.getByName(this.#peer)
        .wake()
        .catch(() => undefined),
    );
  }

  /** Tells a Tunnel that it no longer consumes this mailbox. One that stays would take it back. */
  async #fence({ tunnel, generation }: Consumer): Promise<void> {
    for (const pause of RETRY_PAUSES) {
      try {
        const stays = await this.#reader(tunnel).fenced(this.#peer, generation);
        if (stays && this.#consumer?.tunnel !== tunnel) {
          const former = this.#former.filter((other) => other !== tunnel);
          this.#setFormer([...former, tunnel].slice(-FORMER_CONSUMERS));
        }
        return;
      } catch {
        // It may hear of it later; what it says is not heard in any case.
        await scheduler.wait(pause);
      }
    }
  }

  /** The consumer has left. Whoever was it before, and is still there, is asked to come back. */
  #vacate(consumer: Consumer): void {
    if (this.#consumer !== consumer) return;
    this.#setConsumer(undefined);
    this.#countVolatile();
    if (this.#former.length > 0) this.ctx.waitUntil(this.#recall());
  }

  async #recall(): Promise<void> {
    for (let tunnel = this.#former.at(-1); tunnel !== undefined; tunnel = this.#former.at(-1)) {
      this.#setFormer(this.#former.slice(0, -1));
      const comes = await this.#reader(tunnel)
        .recall(this.#peer)
        .catch(() => false);
      if (comes || this.#consumer !== undefined) return;
    }
  }

  #setConsumer(consumer: Consumer | undefined): void {
    this.#consumer = consumer;
    this.#keep("consumer", consumer);
    this.#sent = this.#store.position;
    this.#flying = [];
    this.#flyingOctets = 0;
  }

  #setFormer(former: readonly string[]): void {
    if (former.length === 0 && this.#former.length === 0) return;
    this.#former = former;
    this.#keep("former", former);
  }

  #setRefused(refused: Refused | undefined): void {
    this.#refused = refused;
    this.#keep("refused", refused);
  }

  /** Sends what the window allows. One push runs at a time; the platform keeps it back until what it sends is durable. */
  #push(): void {
    const consumer = this.#consumer;
    if (consumer === undefined || this.#pushing === consumer) return;
    this.#pushing = consumer;
    this.ctx.waitUntil(
      this.#pushAll(consumer).finally(() => {
        if (this.#pushing === consumer) this.#pushing = undefined;
      }),
    );
  }

  async #pushAll(consumer: Consumer): Promise<void> {
    let failures = 0;
    while (this.#consumer === consumer) {
      const messages = this.#sendable();
      const last = messages.at(-1);
      if (last === undefined) return;
      this.#sent = last.seq;
      for (const { seq, mail } of messages) {
        this.#flying.push({ seq, size: mail.body.length });
        this.#flyingOctets += mail.body.length;
      }
      const taken = await this.#deliver(consumer, messages);
      if (taken === "gone") {
        this.#vacate(consumer);
        return;
      }
      if (taken === "taken") {
        failures = 0;
        continue;
      }
      // Nobody knows what became of the call. The Tunnel knows by number what it has.
      const pause = RETRY_PAUSES[failures];
      failures += 1;
      if (pause !== undefined) await scheduler.wait(pause);
      if (this.#consumer !== consumer) return;
      this.#sent = this.#store.position;
      this.#flying = [];
      this.#flyingOctets = 0;
      // The alarm tries again.
      if (pause === undefined) return;
    }
  }

  /** The next messages for the consumer, as far as its window allows. */
  #sendable(): Delivery[] {
    const octets = SEND_WINDOW - this.#flyingOctets;
    const count = SEND_WINDOW_MESSAGES - this.#flying.length;
    if (octets <= 0 || count <= 0) return [];
    for (;;) {
      const messages = this.#store.read(this.#sent, octets, count);
      // One that is larger than what is left of the window waits for it to be empty.
      if (this.#flying.length > 0 && (messages[0]?.mail.body.length ?? 0) > octets) return [];
      const dead = this.#refused !== undefined && this.#refused.times >= REFUSALS ? this.#refused.seq : undefined;
      const before = dead === undefined ? messages : messages.filter(({ seq }) => seq < dead);
      if (before.length === messages.length) return messages;
      // A log is cut from its front: what is before the dead message must be acknowledged first.
      if (dead === undefined || before.length > 0 || this.#flying.length > 0) return before;
      this.#store.remove(dead);
      this.#count("RefusedByPeer", 1);
      this.#setRefused(undefined);
      this.#sent = Math.max(this.#sent, dead);
    }
  }

  /** Undefined when the call failed, so that nobody knows what became of it. */
  async #deliver({ tunnel, generation }: Consumer, messages: readonly Delivery[]): Promise<Taken | undefined> {
    try {
      const delivered = await within(DELIVER_TIMEOUT, this.#reader(tunnel).deliver(this.#peer, generation, messages));
      return delivered?.value;
    } catch {
      return undefined;
    }
  }

  /** The alarm is for what expires, and sooner for what may have been forgotten while somebody should be reading. */
  async #setAlarm(): Promise<void> {
    // Nothing can be due sooner than a watch that begins now.
    if (this.#alarmAt !== undefined && this.#alarmAt <= Date.now() + WATCH_INTERVAL) return;
    const expiry = this.#store.expiry();
    const watch =
      (this.#consumer !== undefined || this.#isRelay) && this.#store.waiting().messages > 0
        ? Date.now() + WATCH_INTERVAL
        : undefined;
    const due = Math.min(expiry ?? Number.POSITIVE_INFINITY, watch ?? Number.POSITIVE_INFINITY);
    if (due === Number.POSITIVE_INFINITY || (this.#alarmAt !== undefined && this.#alarmAt <= due)) return;
    this.#alarmAt ??= (await this.ctx.storage.getAlarm()) ?? Number.POSITIVE_INFINITY;
    if (this.#alarmAt <= due) return;
    this.#alarmAt = due;
    await this.ctx.storage.setAlarm(due);
  }

  /** Writes down what touched no table, when there is a write in any case. */
  #countVolatile(): void {
    if (Object.values(this.#untold).every((count) => count === 0)) return;
    this.#keep("dropped", this.#dropped());
    this.#untold = noDrops();
  }

  /** What was dropped, written down or not. */
  #dropped(): DropCounts {
    const dropped = { ...noDrops(), ...this.#kept<Partial<DropCounts>>("dropped") };
    for (const [drop, count] of Object.entries(this.#untold)) dropped[drop as Drop] += count;
    return dropped;
  }

  #count(drop: Drop, number: number): void {
    if (number === 0) return;
    this.#untold[drop] += number;
    this.#countVolatile();
  }

  #kept<T>(name: string): T | undefined {
    const value = this.#store.fact(name);
    return value === undefined ? undefined : ((JSON.parse(value) as T | null) ?? undefined);
  }

  #keep(name: string, value: unknown): void {
    this.#store.setFact(name, JSON.stringify(value ?? null));
  }
}

/** What became of each message of a batch, of which some were admitted. */
function told(batch: readonly Mail[], admitted: readonly Mail[], outcomes: readonly Outcome[]): Outcome[] {
  let at = 0;
  return batch.map((mail) => (mail === admitted[at] ? (outcomes[at++] ?? "quota") : "locked"));
}
