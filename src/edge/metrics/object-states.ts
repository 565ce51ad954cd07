/**
 * What is true of the objects of this isolate and was not reported yet: how much waits in a mailbox, that a virtual
 * connection is open, whether a link is connected. A report replaces the one before, so a lost one does no lasting harm.
 *
 * @module
 */
import { COUNTED_HALF_OPEN, GATHERED_STATES, REMEMBERED_STATES, REPORT_LIFE } from "./limits.ts";

export const KINDS = ["mailbox", "connection", "link", "isolate"] as const;
export type Kind = (typeof KINDS)[number];

/** What an object reports of itself. */
export interface ObjectState {
  /** Encapsulation of a connection, or state of a link; otherwise empty. */
  readonly label: string;
  /** Messages that wait; half-open connections of an isolate; 1 for a connection or link. 0: there is nothing to know. */
  readonly count: number;
  /** Bytes that wait. */
  readonly octets: number;
  /** When the oldest message that waits was stored, or when a connection began, in milliseconds since 1970. */
  readonly oldest: number | null;
  /** When the report is too old to count, in milliseconds since 1970. */
  readonly until: number | null;
  /** Whom a connection is for: the URL of the device, or of the origin relay that it is passed through to. Else empty. */
  readonly who: string;
}

/** A report about one object. */
export interface Report extends ObjectState {
  readonly kind: Kind;
  readonly name: string;
}

/** Nothing to know of an object: no collector keeps it. */
export const ABSENT: ObjectState = { label: "", count: 0, octets: 0, oldest: null, until: null, who: "" };

/**
 * The state of an object of which there is one: a connection, or a link.
 *
 * @param since milliseconds since 1970; null if that is not told
 */
export function present(label: string, who = "", since: number | null = null): ObjectState {
  return { ...ABSENT, label, count: 1, who, oldest: since };
}

export class ObjectStates {
  readonly #unsent = new Map<string, Report>();
  /** What was sent last, by kind and name, oldest first. */
  readonly #sent = new Map<string, string>();
  /** Half-open connections, and until when each counts. */
  readonly #halfOpen = new Map<string, number>();
  #halfOpenSent = 0;

  /** Notes the state of an object. */
  observe(kind: Kind, name: string, state: ObjectState): void {
    const key = `${kind} ${name}`;
    if (this.#sent.get(key) === textOf(state)) this.#unsent.delete(key);
    else this.#unsent.set(key, { kind, name, ...state });
  }

  /** Counts a half-open connection, which ends by itself at the given time. */
  halfOpen(connection: string, until: number): void {
    if (this.#halfOpen.size < COUNTED_HALF_OPEN) this.#halfOpen.set(connection, until);
  }

  /** Uncounts a connection that is open now, or has ended. */
  notHalfOpen(connection: string): void {
    this.#halfOpen.delete(connection);
  }

  /** Whether something is to be reported. */
  get some(): boolean {
    return this.#unsent.size > 0 || this.#halfOpen.size !== this.#halfOpenSent;
  }

  /** Whether so much has gathered that it must be sent now. */
  get many(): boolean {
    return this.#unsent.size >= GATHERED_STATES;
  }

  /** Returns the reports that are due. @param isolate the name of this isolate */
  take(isolate: string, now: number): Report[] {
    for (const [connection, until] of this.#halfOpen) if (until <= now) this.#halfOpen.delete(connection);
    const halfOpen = this.#halfOpen.size;
    if (halfOpen !== this.#halfOpenSent) {
      this.observe("isolate", isolate, { ...ABSENT, count: halfOpen, until: now + REPORT_LIFE });
    }
    this.#halfOpenSent = halfOpen;
    const taken = [...this.#unsent.values()];
    this.#unsent.clear();
    return taken;
  }

  /** Reports that have arrived. */
  arrived(reports: readonly Report[]): void {
    for (const { kind, name, ...state } of reports) {
      const key = `${kind} ${name}`;
      this.#sent.delete(key);
      this.#sent.set(key, textOf(state));
      const newer = this.#unsent.get(key);
      if (newer !== undefined && textOf(newer) === textOf(state)) this.#unsent.delete(key);
    }
    for (const key of this.#sent.keys()) {
      if (this.#sent.size <= REMEMBERED_STATES) break;
      this.#sent.delete(key);
    }
  }

  /** Reports that may not have arrived, to be sent again unless there are newer ones. */
  failed(reports: readonly Report[]): void {
    for (const report of reports) {
      const key = `${report.kind} ${report.name}`;
      this.#sent.delete(key);
      if (!this.#unsent.has(key)) this.#unsent.set(key, report);
    }
  }
}

function textOf({ label, count, octets, oldest, until, who }: ObjectState): string {
  return `${count} ${octets} ${oldest} ${until} ${label} ${who}`;
}

/** The states of the objects of this isolate. */
export const objectStates = new ObjectStates();
