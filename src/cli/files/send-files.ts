/**
 * The sending loop of `grooveway send`: sends the files in parallel until all are sent, or the run ends early. A
 * repeated run resumes unfinished transfers; those that cannot be resumed are cancelled.
 *
 * @module
 */

import { within } from "../../lib/runtime/timeout.ts";
import { Semaphore } from "../../lib/semaphore.ts";
import { CommandError } from "../command-error.ts";
import { FILES_AT_ONCE, FileSender, type FileSenderOptions, type SentFile, type StreamToSend } from "./file-sender.ts";
import type { FileToSend } from "./files-to-send.ts";
import { StallWatch, type WaitingFor } from "./stall-watch.ts";

/** Time for withdrawing messages and telling the recipient, in milliseconds: a few round trips each. */
const CANCEL_TIMEOUT = 10_000;

/** Time for the withdrawal alone. What is left suffices to tell the recipient, whatever the edge does. */
const WITHDRAW_TIMEOUT = 7000;

/** Time for a message that was partly sent to arrive, in milliseconds, once the mailbox has room: two round trips. */
const FLIGHT_TIMEOUT = 2000;

/** Errors that concern a single file. The others are still sent. */
const OF_ONE_FILE: readonly string[] = ["CannotRead", "NameTooLong"];

export interface SendFilesOptions extends Omit<FileSenderOptions, "onProgress"> {
  readonly sources: Iterable<FileToSend | StreamToSend>;
  /** Milliseconds without progress after which the run gives up on a recipient or a connection. */
  readonly wait: number;
  /** Milliseconds after which a wait is reported. */
  readonly silence: number;
  /** Aborting it ends the run. */
  readonly signal: AbortSignal;
  readonly listener: SendListener;
  /** Withdraws the queued messages of an abandoned transfer, if the edge can. */
  readonly takeBack?: (transfer: string) => Promise<void>;
}

/** Receives events of a run. If a returned promise rejects, the run ends. */
export interface SendListener {
  /** The relay has stored a file. */
  sent(file: SentFile): Promise<void>;
  /** A file could not be sent; the others continue. */
  failed(source: FileToSend | StreamToSend, error: CommandError): Promise<void>;
  /** More bytes are stored. */
  progress(bytes: number): void;
  waiting(reason: WaitingFor): void;
  goingOn(): void;
}

/** How a run ended. Anything worse is thrown. */
export type SendEnd =
  /** Every file was sent or failed. */
  | "done"
  /** `signal` was aborted. */
  | "interrupted"
  /** The recipient made no room in time. Unfinished transfers were cancelled. */
  | "recipientWaitedFor"
  /** The connection was not restored in time. */
  | "connectionWaitedFor";

/** Ends a run early. Not an error. */
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
  /** Places for files being sent. Closing it ends the run early. */
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

  /** The recipient takes no more for now: the device's `onHeld`. */
  held(): void {
    this.#watch.held();
  }

  /** The recipient takes messages again. */
  released(): void {
    this.#watch.released();
  }

  /** The connection was lost, and is being restored. */
  lost(): void {
    this.#watch.lost();
  }

  /**
   * Sends all files.
   *
   * @throws DeviceError if nothing more can be sent; errors of the listener
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
    // Wait for all files: every place is free only when all have finished.
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

  /** Tells the recipient which transfers will not continue, as far as time allows. */
  async #cancel(end: SendEnd | undefined): Promise<void> {
    const isGivenUp = end === "recipientWaitedFor";
    const reason = isGivenUp ? "WaitedTooLong" : "Interrupted";
    const over = this.#sender.unfinished.filter(({ canGoOn }) => isGivenUp || !canGoOn);
    const told = over.map(async ({ transfer }) => {
      // Withdraw first: the id of the cancellation has the same transfer, and would be withdrawn too.
      if (isGivenUp) await within(WITHDRAW_TIMEOUT, this.#withdraw(transfer)).catch(() => undefined);
      await this.#sender.cancel(transfer, reason).catch(() => undefined);
    });
    if (told.length > 0) await within(CANCEL_TIMEOUT, Promise.all(told));
  }

  /** Withdraws what waits of a transfer, and then what was partly sent, for which there is room now. */
  async #withdraw(transfer: string): Promise<void> {
    const { takeBack } = this.#options;
    if (takeBack === undefined) return;
    await takeBack(transfer);
    const { inFlight } = this.#sender;
    if (inFlight === undefined) return;
    await within(FLIGHT_TIMEOUT, inFlight);
    await takeBack(transfer);
  }
}
