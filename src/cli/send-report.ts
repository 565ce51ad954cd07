/**
 * Output of `grooveway send`: a line or JSON object for each file sent, a line for each failure, a progress bar on a
 * terminal, and a summary at the end.
 *
 * @module
 */
import type { DeviceError } from "../device/device-error.ts";
import { jsonLine, visible } from "../lib/printable.ts";
import { CommandError } from "./command-error.ts";
import { rate } from "./device-options.ts";
import { durationText } from "./duration.ts";
import type { ExitName } from "./exit-codes.ts";
import type { SentFile, StreamToSend } from "./files/file-sender.ts";
import type { FileToSend, Finding } from "./files/files-to-send.ts";
import type { Room } from "./files/recipient-mailbox.ts";
import type { SendEnd, SendListener } from "./files/send-files.ts";
import type { WaitingFor } from "./files/stall-watch.ts";
import { type Progress, size } from "./output.ts";
import type { Output } from "./standard-output.ts";

export interface SendReportOptions {
  readonly output: Pick<Output, "report">;
  /** Prints a line for the user on standard error. */
  readonly tell: (line: string) => void;
  readonly progress: Progress;
  /** The recipient's address. */
  readonly to: string;
  /** The paths on the command line. */
  readonly paths: readonly string[];
  /** A single file or standard input is sent, and the output is about that. */
  readonly isOne: boolean;
  readonly isJson: boolean;
  /** Standard error is a terminal: what the bar shows needs no line. */
  readonly isTerminal: boolean;
  /** The value of --wait, in seconds. */
  readonly wait: number;
}

export class SendReport implements SendListener {
  readonly #options: SendReportOptions;
  readonly #to: string;
  /** Files and streams to send. */
  readonly sources: (FileToSend | StreamToSend)[] = [];
  /** Total bytes of the sources of known size. */
  #bytes = 0;
  #isSizeKnown = true;
  readonly #failures: CommandError[] = [];
  #skipped = 0;
  #sent = 0;
  #safe = 0;
  #before = 0;
  #canGoOn = false;
  #isWaiting = false;
  #hasToldWaiting = false;
  #started = performance.now();

  constructor(options: SendReportOptions) {
    this.#options = options;
    this.#to = visible(options.to);
  }

  /** Records a file, a skipped entry or an error found under a PATH. */
  async found(finding: Finding): Promise<void> {
    switch (finding.type) {
      case "file":
        this.sources.push(finding.file);
        this.#bytes += finding.file.size;
        // Files in /proc report size 0 but are not empty.
        if (finding.file.size === 0) this.#isSizeKnown = false;
        break;
      case "skipped":
        this.#skipped += 1;
        await this.#event({ event: "skipped", path: finding.path, why: finding.why });
        this.#tell(`${finding.path} ${finding.why}: not sent`);
        break;
      case "failed":
        await this.#failed(finding.path, finding.error);
        break;
    }
  }

  /** Adds standard input as a source. */
  foundStream(stream: StreamToSend): void {
    this.sources.push(stream);
    this.#isSizeKnown = false;
  }

  /** Total bytes to send; undefined if a source's size is unknown. */
  get bytes(): number | undefined {
    return this.#isSizeKnown ? this.#bytes : undefined;
  }

  /**
   * Marks the start of sending.
   *
   * @param canGoOn whether a repeated run resumes where this one ends
   */
  begin(canGoOn: boolean): void {
    this.#canGoOn = canGoOn;
    this.#started = performance.now();
  }

  async sent({ name, bytes, sha256, transfer, before, isChanged }: SentFile): Promise<void> {
    this.#sent += 1;
    this.#before += before;
    if (isChanged) this.#tell(`${visible(name)} changed while it was being read: what was read was sent`);
    await this.#event({ event: "sent", to: this.#options.to, name, bytes, sha256, transfer, before });
    if (!this.#options.isOne) return;
    await this.#line(`sent ${visible(name)} to ${this.#to}: ${this.#amount(bytes)}, sha256 ${sha256}`);
  }

  failed(source: FileToSend | StreamToSend, error: CommandError): Promise<void> {
    return this.#failed("path" in source ? visible(String(source.path)) : visible(source.name), error);
  }

  async #failed(path: string, error: CommandError): Promise<void> {
    this.#failures.push(error);
    await this.#event({ event: "failed", path, code: error.code, message: error.message });
    // The error of a single file ends the command, which prints it.
    if (!this.#options.isOne) this.#tell(`${error.message} [${error.code}]`);
  }

  progress(bytes: number): void {
    this.#safe += bytes;
    this.#draw();
  }

  /**
   * Checks the size against the room in the recipient's mailbox, before anything is sent.
   *
   * @throws CommandError QuotaWouldBeExceeded if it does not fit and --wait is 0
   */
  room({ octets, attached }: Room): void {
    const { bytes } = this;
    if (bytes === undefined || attached || bytes <= octets) return;
    const { wait } = this.#options;
    const what = `${this.#to} is not connected, and its mailbox has room for ${size(octets)} of ${size(bytes)}`;
    if (wait === 0)
      throw new CommandError("QuotaWouldBeExceeded", `${what}: nothing was sent; use --wait to wait for room`);
    this.#tell(
      `${what}: the rest is sent as it receives; send gives up after ${durationText(wait)} without progress (--wait)`,
    );
  }

  /** Reports that the connection was lost, or refused for now. */
  reconnecting({ message }: { readonly message: string }): void {
    this.#tell(`${message}; reconnecting`);
  }

  waiting(reason: WaitingFor): void {
    this.#isWaiting = true;
    void this.#event({ event: "waiting", to: this.#options.to, for: reason }).catch(() => undefined);
    // A lost connection was reported already. On a terminal the bar suffices after the first explanation.
    if (reason === "recipient" && !(this.#hasToldWaiting && this.#options.isTerminal)) {
      this.#hasToldWaiting = true;
      const limit = durationText(this.#options.wait);
      this.#tell(
        `waiting until ${this.#to} receives: as much is stored for it as one sender may have waiting, and the rest follows; send gives up after ${limit} without progress (--wait)`,
      );
    }
    this.#draw();
  }

  goingOn(): void {
    this.#isWaiting = false;
  }

  #draw(): void {
    const count = this.#options.isOne ? "" : `, ${this.#sent} of ${this.sources.length} files`;
    const label = `${this.#isWaiting ? "waiting for" : "to"} ${this.#to}${count}`;
    this.#options.progress.update(this.#safe, this.bytes, label);
  }

  /**
   * Reports the end of the run. Resolves with the error that the command ends with, or undefined if everything was
   * sent.
   *
   * @param ending how the command ends if the run was interrupted
   */
  async finish(end: SendEnd, ending?: ExitName): Promise<CommandError | undefined> {
    const { isOne, paths, wait } = this.#options;
    const milliseconds = Math.round(performance.now() - this.#started);
    const { length: failed } = this.#failures;
    const [failure] = this.#failures;
    await this.#event({
      event: "finished",
      to: this.#options.to,
      end,
      files: this.#sent,
      bytes: this.#safe,
      before: this.#before,
      failed,
      skipped: this.#skipped,
      milliseconds,
    });
    switch (end) {
      case "done":
        if (isOne && failure !== undefined) return failure;
        if (this.sources.length + failed === 0) {
          return new CommandError(
            "CannotRead",
            `there are no files in ${paths.map(visible).join(" ")}: nothing was sent`,
          );
        }
        if (!isOne && this.#sent > 0) {
          await this.#line(`sent ${files(this.#sent)} to ${this.#to}: ${this.#amount(this.#safe)}`);
        }
        if (failure === undefined) return undefined;
        return new CommandError(
          this.#sent > 0 ? "SomeFailed" : failure.code,
          `${failed} of ${files(this.#sent + failed)} could not be sent`,
        );
      case "interrupted":
        return new CommandError("Interrupted", `interrupted: ${this.#state}`, ending);
      case "recipientWaitedFor":
        return new CommandError(
          "WaitedTooLong",
          `${this.#to} fetched nothing for ${durationText(wait)}, so unfinished transfers were cancelled: ${this.#state}; run recv there, or wait longer with --wait`,
        );
      case "connectionWaitedFor":
        return new CommandError(
          "ConnectFailed",
          `could not connect for ${durationText(wait)} (--wait): ${this.#state}`,
        );
    }
  }

  /** Adds what was sent so far to the error that aborted the run. */
  explained({ code, message }: DeviceError): CommandError {
    return new CommandError(code, this.#safe + this.#sent > 0 ? `${message}; ${this.#state}` : message);
  }

  /** Clears the progress bar. */
  end(): void {
    this.#options.progress.end();
  }

  get #state(): string {
    const { isOne } = this.#options;
    const bytes = this.bytes === undefined ? size(this.#safe) : `${size(this.#safe)} of ${size(this.bytes)}`;
    const amount = isOne ? bytes : `${this.#sent} of ${files(this.sources.length)}, ${bytes}`;
    return `${amount} sent; the same command ${this.#canGoOn ? "continues from there" : "starts over"}`;
  }

  #amount(bytes: number): string {
    const before = this.#before === 0 ? "" : ` (${size(this.#before)} of it in earlier runs)`;
    return `${size(bytes)}${before} at ${rate(bytes - this.#before, performance.now() - this.#started)}`;
  }

  #line(line: string): Promise<void> {
    return this.#options.isJson ? Promise.resolve() : this.#write(`${line}\n`);
  }

  #event(event: Readonly<Record<string, unknown>>): Promise<void> {
    return this.#options.isJson ? this.#write(`${jsonLine(event)}\n`) : Promise.resolve();
  }

  #write(text: string): Promise<void> {
    this.#options.progress.hide();
    return this.#options.output.report([text]);
  }

  #tell(line: string): void {
    this.#options.progress.hide();
    this.#options.tell(line);
  }
}

function files(count: number): string {
  return count === 1 ? "1 file" : `${count} files`;
}
