/**
 * Inboxes: what others post for one peer, a Durable Object for each peer that has any. Its name is the locator of their
 * capabilities (capability.ts).
 *
 *   Worker ── open(capability) ─► may a request come? ── post(request) ─► signature ─► Mailbox of the peer ─► 202
 *   owner ── setAside(request) ─► kept here, off the mailbox ── replay ─► Mailbox of the peer
 *
 * A request is in the peer's mailbox before it is answered. It is remembered here before it goes there, with the id of
 * its message, and again when the mailbox has it. So a request that comes again because its answer was lost has the same
 * id, and the mailbox stores it once, and one that the mailbox has refused is not taken for stored.
 *
 * Other calls run at each await: an inbox may be removed while a signature is checked.
 *
 * The object registers in the directory before it stores anything, and unregisters after it has deleted everything, so
 * that its owner can look without creating it.
 *
 * @module
 */
import { DurableObject } from "cloudflare:workers";
import { Turns } from "../../lib/read-write-lock.ts";
import { within } from "../../lib/runtime/timeout.ts";
import { type Bucket, bucket, take, wait } from "../../lib/token-bucket.ts";
import { decodeRequest, INBOX_RESOURCE, targetText } from "../../requests/index.ts";
import { identityURL, inboxURL, parseURL } from "../../sstp/index.ts";
import type { Envelope } from "../../store-and-forward/envelope.ts";
import { isNewerSchema } from "../../store-and-forward/stored-version.ts";
import { Voucher } from "../../store-and-forward/vouched-id.ts";
import { isStorageFull, noticeStorageFull } from "../disk-full.ts";
import type { Env } from "../env.ts";
import { logError } from "../log.ts";
import type { Reason } from "../reasons.ts";
import { DIRECTORY } from "../rpc/directory-rpc.ts";
import type {
  CapabilityTrace,
  FailedRequest,
  InboxChange,
  InboxesRpc,
  InboxOpened,
  InboxPosted,
  InboxRefusal,
  InboxStatus,
  NewInbox,
  SetAside,
} from "../rpc/inboxes-rpc.ts";
import type { Refusal } from "../rpc/mailbox-rpc.ts";
import { pack } from "../rpc/message-batch.ts";
import { InboxStore, type StoredInbox } from "./inbox-store.ts";
import { BURST_SECONDS, FULL_RETRY, INBOXES, REPLAYED_AT_ONCE, STORE_TIMEOUT, TIDY_INTERVAL } from "./limits.ts";
import { judge, parseVerification, slackChallenge } from "./signature.ts";

const UNKNOWN: InboxRefusal = { type: "refused", reason: "UnknownInbox", detail: "" };

/** Why a mailbox has not stored a request. */
const REFUSALS: Readonly<Record<Refusal["outcome"], Reason>> = {
  locked: "LockedOut",
  tooLong: "RequestTooLong",
  quota: "InboxFull",
  full: "InboxFull",
  notEntered: "InboxBusy",
  newer: "NewerSchema",
  DNSLookupFailed: "InternalError",
  HostNotReachable: "InternalError",
  ConnectionClosed: "InternalError",
};

/** What an inbox has refused since the object woke. */
interface Refused {
  count: number;
  last: Reason;
}

export class Inboxes extends DurableObject<Env> implements InboxesRpc {
  readonly #store: InboxStore | undefined;
  /** Set if a newer release has written what is stored. */
  readonly #newer: Error | undefined;
  /** By name. */
  readonly #rates = new Map<string, Bucket>();
  readonly #refused = new Map<string, Refused>();
  /** Calls that create or delete the tables. */
  readonly #turns = new Turns();
  #alarmAt: number | undefined;

  constructor(context: DurableObjectState, env: Env) {
    super(context, env);
    const { storage } = context;
    try {
      this.#store = new InboxStore(storage.sql, (run) => storage.transactionSync(run));
    } catch (error) {
      if (!(error instanceof Error && isNewerSchema(error))) throw error;
      this.#newer = error;
    }
  }

  async create(peer: string, inbox: NewInbox, capability: CapabilityTrace): Promise<InboxChange> {
    if (isStorageFull()) return full();
    return this.#turns.alone(async () => {
      await this.#make(peer);
      const store = this.#readable;
      if (store.inbox(inbox.name) !== undefined) return refused("InboxExists");
      if (store.inboxes().length >= INBOXES) return refused("TooManyInboxes");
      store.add(inbox, capability, Date.now());
      return this.#done(inbox.name);
    });
  }

  /** Creates the tables, once the directory has this object. */
  async #make(peer: string): Promise<void> {
    if (this.#readable.peer !== undefined) return;
    await this.#directory.enterInboxes(peer);
    this.#readable.make(peer);
  }

  async list(): Promise<InboxStatus[]> {
    return this.#readable.inboxes().map((inbox) => this.#statusOf(inbox));
  }

  async remove(name: string): Promise<boolean> {
    if (this.#readable.inbox(name) === undefined) return false;
    this.#readable.remove(name);
    this.#rates.delete(name);
    this.#refused.delete(name);
    await this.#leaveIfEmpty();
    return true;
  }

  async setSecret(name: string, secret: string, until: number): Promise<InboxChange> {
    const inbox = this.#readable.inbox(name);
    if (inbox === undefined) return UNKNOWN;
    const [former] = inbox.secrets;
    const kept = former === undefined || until <= Date.now() ? [] : [{ text: former.text, until }];
    this.#readable.setSecrets(name, [{ text: secret }, ...kept]);
    return this.#done(name);
  }

  async setCapability(name: string, capability: CapabilityTrace): Promise<InboxChange> {
    if (this.#readable.inbox(name) === undefined) return UNKNOWN;
    this.#readable.setCapability(name, capability);
    return this.#done(name);
  }

  async open(hash: string): Promise<InboxOpened> {
    const inbox = this.#readable.inboxOfCapability(hash);
    if (inbox === undefined) return UNKNOWN;
    const now = Date.now();
    const rate = this.#rates.get(inbox.name) ?? bucket(inbox.rate, inbox.rate * BURST_SECONDS, now);
    this.#rates.set(inbox.name, rate);
    if (take(rate, 1, now)) return { type: "open", largest: inbox.largest };
    const retryAfter = Math.ceil(wait(rate, 1, now) / 1000);
    return this.#refuse(inbox, { ...refused("InboxBusy"), retryAfter });
  }

  async post(hash: string, message: Uint8Array): Promise<InboxPosted> {
    const asked = this.#readable.inboxOfCapability(hash);
    const request = decodeRequest(message);
    if (asked === undefined || !request.ok) return UNKNOWN;
    const { value: signed } = request;
    const verification = parseVerification(asked.verify);
    if (!verification.ok) throw new Error(`an inbox has an unknown verification: ${verification.problems}`);
    const begun = Date.now();
    const secrets = asked.secrets.filter(({ until = begun + 1 }) => until > begun).map(({ text }) => text);
    const judged = await judge(verification.value, secrets, signed, begun);
    if (!judged.ok) return this.#refuse(asked, refused(judged.reason, judged.detail));
    const challenge = slackChallenge(verification.value, signed.body);
    if (challenge !== undefined) return { type: "challenge", challenge };
    const inbox = this.#readable.inboxOfCapability(hash);
    if (inbox === undefined) return UNKNOWN;
    if (isStorageFull()) return this.#refuse(inbox, full());
    try {
      const { mark } = judged;
      const { unique, isDone } = this.#readable.begin(inbox, mark, Date.now());
      if (!isDone) {
        const refusal = await this.#append(inbox.name, unique, message);
        if (refusal !== undefined) return this.#refuse(inbox, refusal);
        this.#readable.finish(inbox, mark, Date.now());
        if (mark !== undefined) await this.#alarmBy(Date.now() + TIDY_INTERVAL);
      }
      return { type: "stored", answer: inbox.answer };
    } catch (error) {
      if (!noticeStorageFull(error)) throw error;
      return this.#refuse(inbox, full());
    }
  }

  /** Stores a request in the peer's mailbox. Returns why it is not there; undefined if it is. */
  async #append(inbox: string, unique: string, body: Uint8Array): Promise<InboxRefusal | undefined> {
    const peer = this.#readable.peer ?? "";
    const source = inboxURL({ peer, name: inbox });
    const userRef = new Voucher(source, false).id(unique);
    const batch = pack([{ envelope: envelopeTo(peer, source), fields: { userRef, track: false }, body }]);
    const appended = await within(STORE_TIMEOUT, this.env.MAILBOX.getByName(peer).append(batch));
    if (appended === undefined) return { ...refused("InboxBusy"), retryAfter: FULL_RETRY };
    const [refusal] = appended.value.refusals;
    if (refusal === undefined) return undefined;
    return { ...refused(REFUSALS[refusal.outcome]), retryAfter: FULL_RETRY };
  }

  async setAside(peer: string, why: SetAside, message: Uint8Array): Promise<InboxRefusal | undefined> {
    if (isStorageFull()) return full();
    return this.#turns.alone(async () => {
      await this.#make(peer);
      const request = decodeRequest(message);
      const { method = "", path = "", query = undefined } = request.ok ? request.value : {};
      const target = request.ok ? `${method} ${targetText(path, query)}` : "";
      return this.#readable.setAside(why, target, message, Date.now()) ? undefined : refused("SetAsideFull");
    });
  }

  async failed(after: number): Promise<FailedRequest[]> {
    return this.#readable.failed(after);
  }

  async replay(
    numbers: readonly number[] | undefined,
  ): Promise<{ readonly replayed: number; readonly refusal?: InboxRefusal }> {
    let replayed = 0;
    for (const { number, inbox } of this.#chosen(numbers).slice(0, REPLAYED_AT_ONCE)) {
      const message = this.#readable.failedMessage(number);
      // It may have been removed during an earlier turn of this loop.
      if (message.length === 0) continue;
      // The id is always the same, so a crash before the removal does not put it there twice.
      const refusal = await this.#append(inbox, this.#readable.replayId(number), message);
      if (refusal !== undefined) return { replayed, refusal };
      if (this.#readable.removeFailed(number)) replayed += 1;
    }
    await this.#leaveIfEmpty();
    return { replayed };
  }

  async discard(numbers: readonly number[] | undefined): Promise<number> {
    const removed = this.#chosen(numbers).filter(({ number }) => this.#readable.removeFailed(number)).length;
    await this.#leaveIfEmpty();
    return removed;
  }

  /** Requests that were set aside, in order: all, or those of some numbers. */
  #chosen(numbers: readonly number[] | undefined): FailedRequest[] {
    const all: FailedRequest[] = [];
    for (let page = this.#readable.failed(0); page.length > 0; page = this.#readable.failed(all.at(-1)?.number ?? 0)) {
      all.push(...page);
    }
    return numbers === undefined ? all : all.filter(({ number }) => numbers.includes(number));
  }

  override async alarm(): Promise<void> {
    this.#alarmAt = undefined;
    if (this.#newer !== undefined) return;
    try {
      if (this.#readable.forgetMarks(Date.now())) await this.#alarmBy(Date.now() + TIDY_INTERVAL);
    } catch (error) {
      if (!noticeStorageFull(error)) logError(error);
      await this.#alarmBy(Date.now() + TIDY_INTERVAL);
    }
    await this.#leaveIfEmpty();
  }

  async #alarmBy(at: number): Promise<void> {
    this.#alarmAt ??= (await this.ctx.storage.getAlarm()) ?? undefined;
    if (this.#alarmAt !== undefined && this.#alarmAt <= at) return;
    this.#alarmAt = at;
    await this.ctx.storage.setAlarm(at);
  }

  /** Deletes everything once there is no inbox and nothing set aside. */
  async #leaveIfEmpty(): Promise<void> {
    await this.#turns.alone(async () => {
      const { peer } = this.#readable;
      if (peer === undefined || !this.#readable.isEmpty) return;
      this.#alarmAt = undefined;
      await this.ctx.storage.deleteAlarm();
      await this.ctx.storage.deleteAll();
      this.#readable.forget();
      await this.#directory.leaveInboxes(peer);
    });
  }

  /** @throws NewerSchemaError */
  get #readable(): InboxStore {
    if (this.#store === undefined) throw this.#newer ?? new Error("there is no store");
    return this.#store;
  }

  get #directory(): ReturnType<Env["DIRECTORY"]["getByName"]> {
    return this.env.DIRECTORY.getByName(DIRECTORY);
  }

  #refuse<R extends InboxRefusal>({ name }: StoredInbox, refusal: R): R {
    const before = this.#refused.get(name)?.count ?? 0;
    this.#refused.set(name, { count: before + 1, last: refusal.reason });
    return refusal;
  }

  #done(name: string): InboxChange {
    const inbox = this.#readable.inbox(name);
    return inbox === undefined ? UNKNOWN : { type: "done", inbox: this.#statusOf(inbox) };
  }

  #statusOf({ name, verify, last, secrets, largest, rate, created, stored, latest }: StoredInbox): InboxStatus {
    const now = Date.now();
    const refusals = this.#refused.get(name);
    return {
      name,
      verify,
      last,
      secrets: secrets.filter(({ until = now + 1 }) => until > now).length,
      largest,
      rate,
      created,
      stored,
      latest: latest === 0 ? undefined : latest,
      refused: refusals?.count ?? 0,
      refusal: refusals?.last,
    };
  }
}

/** The envelope of a message to a peer, given by its URL. */
function envelopeTo(peer: string, source: string): Envelope {
  const named = parseURL(peer);
  const identity = named.ok && named.value.kind !== "relay" ? named.value.identity : "";
  const isDevice = named.ok && named.value.kind === "device";
  return {
    source,
    resourceURL: INBOX_RESOURCE,
    identityURL: identityURL({ identity }),
    deviceURL: isDevice ? peer : "",
  };
}

function refused(reason: Reason, detail = ""): InboxRefusal {
  return { type: "refused", reason, detail };
}

function full(): InboxRefusal {
  return { ...refused("InboxFull", "The disk of this edge is nearly full."), retryAfter: FULL_RETRY };
}
