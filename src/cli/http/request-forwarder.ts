/**
 * Forwards what has waited in inboxes to a local server: `grooveway recv --forward`.
 *
 *   message of an inbox ─► server ─ 2xx ─► done
 *                            ├─ other answer, none, broken ─► again after a pause, a few times ─► set aside at the edge ─► done
 *                            └─ no connection ─► again after a pause, for as long as it takes; the rest waits in the mailbox
 *
 * The requests of one inbox go one after the other, in order; those of another do not wait for them. In strict order
 * nothing is set aside for how the server answers. A request is acknowledged when the server has taken it or the edge
 * has set it aside, and never before.
 *
 * @module
 */
import type { Message } from "../../device/index.ts";
import { visible } from "../../lib/printable.ts";
import { decodeRequest, type HttpRequest, headerIn, INBOX_RESOURCE, targetText } from "../../requests/index.ts";
import { type InboxName, inboxIn, recipientOf } from "../../sstp/index.ts";
import type { Asked } from "./ask-server.ts";
import { FIRST_PAUSE, LAST_PAUSE, TRIES } from "./limits.ts";

/** Why a request is set aside, by name. */
export const FORWARD_FAILURES = {
  AnsweredOther: "The server has answered with a status other than 2xx, each time.",
  TimedOut: "The server has not answered in time, each time.",
  ConnectionBroken: "The server has broken the connection before its answer was whole, each time.",
  AnswerTooLong: "The answer of the server was too long, each time.",
  UnsafePath: "The path could lead out of the prefix that was given, so the request is not sent.",
  UnsafeMethod: "The method is CONNECT or TRACE, which is not sent.",
  NotARequest: "The message is not a request.",
} as const;

export type ForwardFailure = keyof typeof FORWARD_FAILURES;

/** A request that is to be set aside. */
export interface FailedForward {
  readonly inbox: InboxName;
  readonly id: string;
  readonly reason: ForwardFailure;
  readonly detail: string;
  readonly tries: number;
}

/** What happened to a request, for the user. */
export type ForwardEvent =
  | {
      readonly event: "forwarded";
      readonly inbox: string;
      readonly id: string;
      readonly target: string;
      readonly status: number;
    }
  | ({ readonly event: "setAside"; readonly target: string } & Omit<FailedForward, "inbox"> & {
        readonly inbox: string;
      });

export interface ForwarderOptions {
  /** Sends a request to the server. */
  readonly ask: (request: HttpRequest) => Promise<Asked>;
  /** Sets a request aside at the edge. Rejects if the edge does not. */
  readonly setAside: (failed: FailedForward, message: Uint8Array) => Promise<void>;
  /** Leaves requests in the mailbox, so that they hold up no other messages, until what it returns is called. */
  readonly suspend: () => () => void;
  /** Waits; ends early when the command ends. */
  readonly pause: (milliseconds: number) => Promise<void>;
  /** Whether nothing is set aside for how the server answers. */
  readonly isStrict: boolean;
  /** How often a request is tried; default {@link TRIES}. */
  readonly tries?: number | undefined;
  readonly report: (event: ForwardEvent) => Promise<void>;
  /** Prints a line for the user. */
  readonly tell: (line: string) => void;
  /** Aborts when the command ends: nothing more is begun. */
  readonly signal: AbortSignal;
}

/** The inbox that a message has come through; undefined if it came from anybody else, whatever it says. */
export function inboxOf({
  resource,
  vouched,
  from,
}: Pick<Message, "resource" | "vouched" | "from">): InboxName | undefined {
  if (resource !== INBOX_RESOURCE || !vouched || from === undefined) return undefined;
  const sender = recipientOf(from);
  // An inbox of another relay is none of ours.
  return sender.ok && sender.value.relay === undefined ? inboxIn(sender.value.deviceURL) : undefined;
}

export class RequestForwarder {
  readonly #options: ForwarderOptions;
  readonly #tries: number;
  /** The last request of each inbox. */
  readonly #queues = new Map<string, Promise<void>>();
  /** Takes requests from the mailbox again; undefined unless the server cannot be connected to. */
  #resume: (() => void) | undefined;
  /** Requests that are done: forwarded, or set aside. */
  taken = 0;

  constructor(options: ForwarderOptions) {
    this.#options = options;
    this.#tries = options.tries ?? TRIES;
  }

  /** Whether a message is a request to forward. */
  takes(message: Message): boolean {
    return inboxOf(message) !== undefined;
  }

  /** Forwards a message in its turn. Resolves when it is done, or left for the next run because this one ends. */
  take(message: Message): Promise<void> {
    const inbox = inboxOf(message);
    if (inbox === undefined) throw new Error("this message is for no inbox");
    const key = `${inbox.peer} ${inbox.name}`;
    const turn = (this.#queues.get(key) ?? Promise.resolve()).then(() => this.#forward(message, inbox));
    // One that fails ends the command. What is behind it must not overtake it.
    this.#queues.set(key, turn);
    turn.catch(() => undefined);
    return turn;
  }

  async #forward(message: Message, inbox: InboxName): Promise<void> {
    const { signal, ask, isStrict, report } = this.#options;
    const { id, body } = message;
    const request = decodeRequest(body);
    if (!request.ok) {
      const failed = { inbox, id, reason: "NotARequest", detail: request.problems, tries: 0 } as const;
      return this.#setAside(message, failed, "");
    }
    const target = `${request.value.method} ${targetText(request.value.path, request.value.query)}`;
    const pauses = new Pauses();
    let tries = 0;
    while (!signal.aborted) {
      const asked = await ask(request.value);
      this.#notice(asked);
      if (asked.type === "answered" && isSuccess(asked.answer.status)) {
        message.done();
        this.taken += 1;
        await report({ event: "forwarded", inbox: inbox.name, id, target, status: asked.answer.status });
        return;
      }
      if (signal.aborted) return;
      if (asked.type === "unsafe") {
        const { reason, detail } = asked;
        return this.#setAside(message, { inbox, id, reason, detail, tries }, target);
      }
      const { reason, detail } = problemOf(asked);
      // Other requests would not get through either.
      if (asked.type !== "unreachable") tries += 1;
      if (tries >= this.#tries && !isStrict)
        return this.#setAside(message, { inbox, id, reason, detail, tries }, target);
      const rest = pauses.next(asked);
      this.#tellOnce(pauses, inbox, target, detail);
      await this.#options.pause(rest);
    }
  }

  #notice({ type }: Asked): void {
    // What is not sent says nothing of the server, and a connection that is ended must not be written to.
    if (type === "unsafe" || this.#options.signal.aborted) return;
    if (type === "unreachable") this.#resume ??= this.#options.suspend();
    else {
      this.#resume?.();
      this.#resume = undefined;
    }
  }

  #tellOnce(pauses: Pauses, { name }: InboxName, target: string, detail: string): void {
    if (!pauses.isNew(detail)) return;
    this.#options.tell(`${name}: ${visible(target)}: ${visible(detail)}; trying again`);
  }

  /** Sets a request aside, for as long as it takes: until then it is not acknowledged. */
  async #setAside(message: Message, failed: FailedForward, target: string): Promise<void> {
    const { signal, setAside, pause, report, tell } = this.#options;
    const pauses = new Pauses();
    for (;;) {
      if (signal.aborted) return;
      try {
        await setAside(failed, message.body);
        break;
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error);
        if (pauses.isNew(why)) tell(`${failed.inbox.name}: ${visible(target)} cannot be set aside: ${visible(why)}`);
        await pause(pauses.next());
      }
    }
    message.done();
    this.taken += 1;
    await report({ event: "setAside", target, ...failed, inbox: failed.inbox.name });
  }
}

/** Pauses that grow, and what was told during them. */
class Pauses {
  #next = FIRST_PAUSE;
  #told: string | undefined;

  /** The next pause, in milliseconds; longer if the server asks for that. */
  next(asked?: Asked): number {
    const rest = this.#next;
    this.#next = Math.min(2 * rest, LAST_PAUSE);
    const header = asked?.type === "answered" ? headerIn(asked.answer.headers, "retry-after") : undefined;
    const wanted = header !== undefined && /^[0-9]{1,6}$/.test(header) ? Number(header) * 1000 : 0;
    return Math.min(Math.max(rest, wanted), LAST_PAUSE);
  }

  /** Whether something else was told the last time. */
  isNew(text: string): boolean {
    const isNew = this.#told !== text;
    this.#told = text;
    return isNew;
  }
}

function isSuccess(status: number): boolean {
  return status >= 200 && status < 300;
}

function problemOf(asked: Exclude<Asked, { type: "unsafe" }>): {
  readonly reason: ForwardFailure;
  readonly detail: string;
} {
  switch (asked.type) {
    case "answered":
      return { reason: "AnsweredOther", detail: `the server answered ${asked.answer.status}` };
    case "unreachable":
      return { reason: "ConnectionBroken", detail: `the server cannot be reached (${asked.detail})` };
    case "failed":
      return { reason: asked.reason, detail: `the server ${asked.detail}` };
  }
}
