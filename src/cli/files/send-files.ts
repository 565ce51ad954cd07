/**
 * What `grooveway send` does with the files that it has found: sends them side by side, and comes to one of a few ends. What it
 * leaves unfinished is gone on with by a repeated run, or cancelled.
 *
 * @module
 */

import { within } from "../../lib/runtime/timeout.ts";
import { Semaphore } from "../../lib/semaphore.ts";
import { CommandError } from "../output.ts";
import { FILES_AT_ONCE, FileSender, type FileSenderOptions, type SentFile, type StreamToSend } from "./file-sender.ts";
import type { FileToSend } from "./files-to-send.ts";
import { StallWatch, type WaitingFor } from "./stall-watch.ts";

/** How long it may take to take messages back and to tell the recipient, in milliseconds: a few round trips each. */
const CANCEL_TIMEOUT = 10_000;

/** Errors of one file, which leave the others alone. */
const OF_ONE_FILE: readonly string[] = ["CannotRead", "NameTooLong"];

export interface SendFilesOptions extends Omit<FileSenderOptions, "onProgress"> {
  readonly sources: Iterable<FileToSend | StreamToSend>;
  /** Milliseconds without progress after which a recipient or a connection is given up. */
  readonly wait: number;
  /** Milliseconds after which a wait is worth a word. */
  readonly silence: number;
  /** Ends it when it aborts. */
  readonly signal: AbortSignal;
  readonly listener: SendListener;
  /** Takes back what waits of a transfer that is given up, where the edge can. */
  readonly takeBack?: (transfer: string) => Promise<void>;
}

/** What a run tells while it goes on. A promise that rejects ends it. */
export interface SendListener {
  /** The relay has a file safe. */
  sent(file: SentFile): Promise<void>;
  /** A file could not be sent, and the others go on. */
  failed(source: FileToSend | StreamToSend, error: CommandError): Promise<void>;
  /** More bytes are safe. */
  progress(bytes: number): void;
  waiting(reason: WaitingFor): void;
  goingOn(): void;
}

/** How a run came to its end; whatever is worse is thrown. */
export type SendEnd =
  /** Every file was sent or has failed. */
  | "done"
  /** `signal` was aborted. */
  | "interrupted"
  /** The recipient made no room in time. What it has the beginning of was cancelled. */
  | "recipientWaitedFor"
  /** The connection was not made again in time. */
  | "connectionWaitedFor";

/** Ends a run, and is no error. */
class Stopped extends Error {
  readonly end: SendEnd;

  constructor(end: SendEnd) {
    super(end);
    this.end = end;
  }
}

export class SendFiles {
  readonly #options: SendFilesOptions;
  readonly #sender: FileSender;
  readonly #watch: StallWatch;
  /** Those that files take which are being sent. It is closed by what ends the run early. */
  readonly #places = new Semaphore(FILES_AT_ONCE);

  constructor(options: SendFilesOptions) {
    this.#options = options;
    const { listener, wait, silence } = options;
    this.#watch = new StallWatch({
      wait,
      silence,
      onWaiting: (reason) => listener.waiting(reason),
      onGoingOn: () => listener.goingOn(),
      onGivenUp: (reason) =>
        this.#places.close(new Stopped(reason === "recipient" ? "recipientWaitedFor" : "connectionWaitedFor")),
    });
    this.#sender = new FileSender({
      ...options,
      onProgress: (bytes) => {
        this.#watch.progress();
        listener.progress(bytes);
      },
    });
  }

  /** The recipient takes no more for now, as `onHeld` of the device says. */
  held(): void {
    this.#watch.held();
  }

  /** The recipient takes more. */
  released(): void {
    this.#watch.released();
  }

  /** The connection was lost, and is being made again. */
  lost(): void {
    this.#watch.lost();
  }

  /**
   * Sends all there is.
   *
   * @throws DeviceError when nothing more can be sent; what the listener rejects with
   */
  async run(): Promise<SendEnd> {
    const { signal } = this.#options;
    const interrupt = () => this.#places.close(new Stopped("interrupted"));
    signal.addEventListener("abort", interrupt);
    if (signal.aborted) interrupt();
    try {
      await this.#sendAll();
      return "done";
    } catch (error) {
      this.#sender.stop(error);
      const end = error instanceof Stopped ? error.end : undefined;
      if (end !== "connectionWaitedFor") await this.#cancel(end);
      if (end === undefined) throw error;
      return end;
    } finally {
      this.#watch.stop();
      signal.removeEventListener("abort", interrupt);
    }
  }

  async #sendAll(): Promise<void> {
    for (const source of this.#options.sources) {
      await this.#places.take();
      this.#sendOne(source)
        .catch((error: unknown) => this.#places.close(error))
        .finally(() => this.#places.give());
    }
    // All places are free when all have come to their ends.
    await this.#places.take(FILES_AT_ONCE);
  }

  async #sendOne(source: FileToSend | StreamToSend): Promise<void> {
    const { listener } = this.#options;
    let file: SentFile;
    try {
      file = await this.#sender.send(source);
    } catch (error) {
      if (!(error instanceof CommandError) || !OF_ONE_FILE.includes(error.code)) throw error;
      await listener.failed(source, error);
      return;
    }
    await listener.sent(file);
  }

  /** Tells the recipient what will not come, as far as that can be said quickly. */
  async #cancel(end: SendEnd | undefined): Promise<void> {
    const isGivenUp = end === "recipientWaitedFor";
    const reason = isGivenUp ? "WaitedTooLong" : "Interrupted";
    const over = this.#sender.unfinished.filter(({ canGoOn }) => isGivenUp || !canGoOn);
    const { takeBack } = this.#options;
    const told = over.map(async ({ transfer }) => {
      // First: the cancellation has an id of the same transfer.
      if (isGivenUp) await takeBack?.(transfer).catch(() => undefined);
      await this.#sender.cancel(transfer, reason).catch(() => undefined);
    });
    if (told.length > 0) await within(CANCEL_TIMEOUT, Promise.all(told));
  }
}
