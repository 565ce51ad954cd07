/**
 * The receiving loop of `grooveway recv`.
 *
 *   message of a transfer ─► FileReceiver ─► acknowledged ─► a line
 *   other message ─► written out ─► acknowledged
 *
 * Several messages are processed at a time, so that their writes and syncs overlap. Each is acknowledged only after its
 * own write. If one cannot be written, it and those after it stay unacknowledged and are delivered again to the next
 * run.
 *
 * @module
 */
import type { Message } from "../device/index.ts";
import { Condition } from "../lib/condition.ts";
import { jsonLine, visible } from "../lib/printable.ts";
import { within } from "../lib/runtime/timeout.ts";
import { decodeMessage, isTransferResource } from "../transfer/index.ts";
import type { FileReceiver, FileSource, Outcome } from "./files/file-receiver.ts";
import type { RequestForwarder } from "./http/request-forwarder.ts";
import { decoded, messageLines } from "./message-lines.ts";
import { type Progress, size } from "./output.ts";
import type { Output, Piece } from "./standard-output.ts";

/**
 * Messages processed at a time. The device bounds their bytes: it stops reading at 32 MiB unacknowledged. This bounds
 * the number of small messages, and is enough for them to share syncs.
 */
const AT_ONCE = 64;

/** Time that pending writes get at shutdown, in milliseconds: enough for a slow disk, not for a stuck pipe. */
const SETTLE = 2_000;

/** How a message is printed. */
export type Form =
  /** For people: escaped, with the sender in front. */
  | "lines"
  /** One JSON object per message, and per file event. */
  | "json"
  /** The body and nothing else. */
  | "raw";

/** The source of messages: a `Device`. */
export interface MessageSource {
  messages(): AsyncIterable<Message>;
  close(): Promise<void>;
}

export interface ReceiveOptions {
  readonly source: MessageSource;
  /** Returns the receiver of files; called for each message of a transfer. */
  readonly files: () => Promise<Pick<FileReceiver, "take" | "retry">>;
  /** Process what earlier runs left before the first message arrives. */
  readonly opensFilesFirst: boolean;
  readonly output: Pick<Output, "columns" | "write" | "report" | "close">;
  readonly form: Form;
  /** Passes on the requests that have waited in inboxes. */
  readonly forwarder?: Pick<RequestForwarder, "takes" | "take" | "taken"> | undefined;
  /** Continue after the first file or message. */
  readonly isFollowing: boolean;
  /** Prints a line for the user on standard error. */
  readonly tell: (line: string) => void;
  readonly progress: Progress;
  /** Aborting it shuts the loop down cleanly. */
  readonly signal: AbortSignal;
}

/** What was received. */
export interface Summary {
  /** Files and messages, and requests that were passed on. */
  readonly received: number;
  /** Transfers that were set aside. */
  readonly setAside: number;
}

/**
 * Processes messages until the first file or message is complete, or forever if `isFollowing`.
 *
 * @throws CommandError OutputClosed, CannotWrite; DeviceError if the connection failed for good
 */
export async function receive(options: ReceiveOptions): Promise<Summary> {
  const { source, output, isFollowing, signal, forwarder } = options;
  const taker = new Taker(options);
  const underWay = new Set<Promise<void>>();
  /** Requests that are passed on, or wait for their turn. The device bounds them. */
  const forwarding = new Set<Promise<void>>();
  let failure: { readonly error: unknown } | undefined;
  const changed = new Condition();
  let ending: Promise<void> | undefined;
  let isOver = false;
  const end = () => {
    ending ??= (async () => {
      await within(SETTLE, Promise.all([...underWay, ...forwarding]));
      output.close();
      await source.close();
      isOver = true;
      changed.notifyAll();
    })();
    return ending;
  };
  const stop = () => void end();
  const isEnough = () => !isFollowing && taker.received > 0;
  signal.addEventListener("abort", stop);
  if (signal.aborted) stop();
  try {
    if (options.opensFilesFirst) await taker.openFiles();
    if (isEnough()) stop();
    for await (const message of source.messages()) {
      if (ending !== undefined) break;
      const isForwarded = forwarder?.takes(message) === true;
      const all = isForwarded ? forwarding : underWay;
      const work: Promise<void> = (isForwarded ? forwarder.take(message) : taker.take(message))
        .catch((error: unknown) => {
          failure ??= { error };
        })
        .then(() => {
          all.delete(work);
          if (failure !== undefined || isEnough()) stop();
          changed.notifyAll();
        });
      all.add(work);
      // A server that is slow, or not there, holds up other messages only when all that the mailbox sends ahead waits for it.
      if (isForwarded) continue;
      // Two messages in flight could each complete something, and only one was asked for.
      const most = isFollowing || !mayComplete(message) ? AT_ONCE : 1;
      while (underWay.size >= most && !isOver) {
        await changed.wait();
      }
    }
  } catch (error) {
    failure ??= { error };
  } finally {
    await end();
    signal.removeEventListener("abort", stop);
  }
  if (failure !== undefined) throw failure.error;
  return { received: taker.received + (forwarder?.taken ?? 0), setAside: taker.setAside };
}

/** Reports whether this message may complete a file or message, once those before it are on disk. */
function mayComplete({ resource, body }: Message): boolean {
  if (!isTransferResource(resource)) return true;
  try {
    const { type } = decodeMessage(body);
    return type === "whole" || type === "end";
  } catch {
    return false;
  }
}

/** Processes messages and reports the outcome. */
class Taker {
  readonly #options: ReceiveOptions;
  readonly #arrivals: Arrivals;
  #files: Promise<Pick<FileReceiver, "take">> | undefined;
  /** A write failed. Only that is reported, not its consequences. */
  #hasFailed = false;
  received = 0;
  setAside = 0;

  constructor(options: ReceiveOptions) {
    this.#options = options;
    this.#arrivals = new Arrivals(options.progress);
  }

  async take(message: Message): Promise<void> {
    if (!isTransferResource(message.resource)) {
      this.#options.progress.hide();
      await this.#options.output.write(this.#piecesOf(message));
      message.done();
      this.received += 1;
      return;
    }
    const files = await this.openFiles();
    let outcome: Outcome;
    try {
      outcome = await files.take(message);
    } catch (error) {
      this.#hasFailed = true;
      throw error;
    }
    await this.#tellOutcome(outcome);
  }

  /** Returns the receiver of files, after it has completed what earlier runs could not put in place. */
  openFiles(): Promise<Pick<FileReceiver, "take">> {
    this.#files ??= (async () => {
      const files = await this.#options.files();
      for (const outcome of await files.retry()) await this.#tellOutcome(outcome);
      return files;
    })();
    return this.#files;
  }

  async #tellOutcome(outcome: Outcome): Promise<void> {
    switch (outcome.kind) {
      case "kept":
        this.#arrivals.update(outcome.transfer, outcome);
        return;
      case "repeated":
        return;
      case "received": {
        const { file } = outcome;
        this.#arrivals.delete(file.transfer);
        this.received += 1;
        const { transfer, name, path, bytes, sha256, from, vouched, elsewhere } = file;
        const where = `${visible(path)}${elsewhere ? " (where an earlier run began it)" : ""}`;
        await this.#report(`received ${where} from ${senderOf(file)}: ${size(bytes)}, sha256 ${sha256}`, {
          event: "file",
          name,
          path,
          bytes,
          sha256,
          transfer,
          from,
          vouched,
          elsewhere,
        });
        return;
      }
      case "setAside": {
        const { source, transfer, name, reason, detail } = outcome;
        if (transfer !== undefined) this.#arrivals.delete(transfer);
        if (this.#hasFailed) return;
        this.setAside += 1;
        const { from, vouched } = source;
        if (this.#options.form === "json") {
          await this.#print(`${jsonLine({ event: "setAside", name, transfer, from, vouched, reason, detail })}\n`);
        } else {
          const what = name === undefined ? "a transfer" : visible(name);
          this.#tell(`set aside ${what} from ${senderOf(source)}: ${visible(detail)} [${reason}]`);
        }
        return;
      }
    }
  }

  *#piecesOf(message: Message): Generator<Piece> {
    const { id, from, vouched, resource, body } = message;
    const { form, output } = this.#options;
    if (form === "raw") yield body;
    else if (form === "lines") yield* messageLines(senderOf(message), body, output.columns);
    else {
      const text = decoded(body);
      const content = text === undefined ? { base64: Buffer.from(body).toString("base64") } : { text };
      yield `${jsonLine({ event: "message", id, from, vouched, resource, ...content })}\n`;
    }
  }

  /** Reports the outcome of a file. With `raw`, standard output is reserved for the body of a message. */
  async #report(line: string, event: Record<string, unknown>): Promise<void> {
    const { form } = this.#options;
    if (form === "raw") this.#tell(line);
    else await this.#print(`${form === "json" ? jsonLine(event) : line}\n`);
  }

  #print(line: string): Promise<void> {
    this.#options.progress.hide();
    return this.#options.output.report([line]);
  }

  #tell(line: string): void {
    this.#options.progress.hide();
    this.#options.tell(line);
  }
}

/** Formats the sender for display. */
export function senderOf({ from, vouched }: FileSource): string {
  if (from === undefined) return "an unknown sender";
  return vouched ? visible(from) : `${visible(from)} (as the sender says)`;
}

/** A file in transfer. */
interface Arrival {
  readonly name: string | undefined;
  readonly held: number;
  readonly size: number | undefined;
}

/** Limits the files in the progress bar: a sender could begin any number of them. */
const SHOWN = 100;

/** Shows all files in transfer as one progress bar. */
class Arrivals {
  readonly #progress: Progress;
  readonly #files = new Map<string, Arrival>();

  constructor(progress: Progress) {
    this.#progress = progress;
  }

  update(transfer: string, { name, held, size }: Arrival): void {
    if (!this.#files.has(transfer) && this.#files.size >= SHOWN) return;
    this.#files.set(transfer, { name, held, size });
    let all = 0;
    let whole: number | undefined = 0;
    for (const file of this.#files.values()) {
      all += file.held;
      whole = whole === undefined || file.size === undefined ? undefined : whole + file.size;
    }
    this.#progress.update(all, whole, this.#files.size === 1 ? (name ?? "a file") : `${this.#files.size} files`);
  }

  delete(transfer: string): void {
    this.#files.delete(transfer);
    if (this.#files.size === 0) this.#progress.hide();
  }
}
