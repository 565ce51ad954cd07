/**
 * The key of this user's devices, and the keys that they trust, in the folder of the profiles:
 *
 *   device.key    the secret key, mode 600; made on first use
 *   trust         trust-text.ts
 *
 * Several commands use the files at the same time: a change is made under a lock, and others see it within a second.
 *
 * @module
 */
import {
  chmodSync,
  closeSync,
  fstatSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  unwatchFile,
  watchFile,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { isSameKey, KEY_OCTETS, type Keyring, publicKeyOf, type StreamReason } from "../../device/index.ts";
import { decodeBase64url, encodeBase64url } from "../../lib/base64url.ts";
import { FileLock, LockHeld } from "../../lib/node/file-lock.ts";
import { visible } from "../../lib/printable.ts";
import { CommandError } from "../command-error.ts";
import { codeOf } from "../files/file-system.ts";
import { neededConfigPath } from "../profiles/config-file.ts";
import {
  formatTrust,
  isAccepted,
  isPattern,
  parseTrust,
  pinOf,
  type TrustLine,
  withAccepted,
  withPending,
  withPin,
} from "./trust-text.ts";

/** Bytes of the file `trust`: room for thousands of lines. */
const LONGEST_FILE = 1024 * 1024;

/** How long to wait for another command to write the file, in milliseconds: each takes a few. */
const LOCK_PATIENCE = 5000;

/** The least time between two pending devices that are written to the file, in milliseconds. */
const PENDING_PAUSE = 1000;

/** How often the file is looked at for changes of others, in milliseconds. */
const LOOK = 500;

/** A line, or a device that was dialed and has another key than the pinned one. */
export type TrustNews = TrustLine | { readonly kind: "changed"; readonly address: string; readonly key: Uint8Array };

export interface KeyringOptions {
  /** Accepts the first key of each address that dials. */
  readonly acceptNew?: boolean;
  /** Lines that hold for this run only. */
  readonly beside?: readonly TrustLine[];
  /** Called when a key is pinned, accepted or refused. */
  readonly tell?: (news: TrustNews, isNew: boolean) => void;
}

export class FileKeyring implements Keyring {
  readonly secretKey: Uint8Array;
  readonly #folder: string;
  readonly #options: KeyringOptions;
  /** From when on another pending device is written. */
  #pendingAt = 0;
  /** What was read last, and the file's state then. */
  #read: { readonly state: string; readonly lines: readonly TrustLine[] } | undefined;

  /**
   * Opens the keyring, with a new key if there is none.
   *
   * @throws CommandError NoConfigFolder, CannotRead, CannotWrite, ConfigUnusable, StateInUse
   */
  constructor(options: KeyringOptions = {}) {
    this.#folder = dirname(neededConfigPath());
    this.#options = options;
    this.secretKey = this.#secret();
    this.lines();
  }

  get publicKey(): Uint8Array {
    return publicKeyOf(this.secretKey);
  }

  /** What is trusted, as it is in the file now. @throws CommandError */
  lines(): readonly TrustLine[] {
    const state = stateOf(this.#path);
    if (this.#read?.state !== state) this.#read = { state, lines: this.#parsed() };
    return this.#read.lines;
  }

  /** Changes what is trusted. @throws CommandError */
  change(change: (lines: readonly TrustLine[]) => readonly TrustLine[]): void {
    this.#locked(() => {
      const before = this.#parsed();
      const after = change(before);
      if (after !== before) replace(this.#path, formatTrust(after));
    });
  }

  pinned(address: string): Uint8Array | undefined {
    return pinOf(this.#known, address);
  }

  meet(address: string, key: Uint8Array): StreamReason | undefined {
    const pin = pinOf(this.#known, address);
    if (pin !== undefined && isSameKey(pin, key)) return undefined;
    if (pin !== undefined || !isPattern(address)) {
      this.#options.tell?.({ kind: "changed", address, key }, true);
      return "ChangedKey";
    }
    const line: TrustLine = { kind: "pin", address, key };
    this.#try(() => this.change((lines) => withPin(lines, address, key)));
    this.#options.tell?.(line, true);
    return undefined;
  }

  admit(address: string, key: Uint8Array): StreamReason | undefined {
    const known = this.#known;
    if (isAccepted([...known, ...(this.#options.beside ?? [])], address, key)) return undefined;
    if (!isPattern(address)) return "UnknownKey";
    const isFirst = !known.some((line) => line.kind === "accept" && line.address === address);
    if (this.#options.acceptNew === true && isFirst) {
      this.#try(() => this.change((lines) => withAccepted(lines, address, key)));
      this.#options.tell?.({ kind: "accept", address, key }, true);
      return undefined;
    }
    const line: TrustLine = { kind: "pending", address, key };
    const isNew = withPending(known, address, key) !== known;
    // Strangers choose their addresses, and must not keep the disk busy.
    if (isNew && Date.now() >= this.#pendingAt) {
      this.#pendingAt = Date.now() + PENDING_PAUSE;
      this.#try(() => this.change((lines) => withPending(lines, address, key)));
    }
    this.#options.tell?.(line, isNew);
    return "UnknownKey";
  }

  onWithdrawn(withdrawn: () => void): () => void {
    watchFile(this.#path, { interval: LOOK, persistent: false }, withdrawn);
    return () => unwatchFile(this.#path, withdrawn);
  }

  get #path(): string {
    return join(this.#folder, "trust");
  }

  /** What is trusted; if the file became unusable meanwhile, nothing. */
  get #known(): readonly TrustLine[] {
    return this.#try(() => this.lines()) ?? [];
  }

  /** A device that connects must not end the command. */
  #try<T>(act: () => T): T | undefined {
    try {
      return act();
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      console.error(`grooveway: ${error.message} [${error.code}]`);
      return undefined;
    }
  }

  #parsed(): readonly TrustLine[] {
    const text = readPrivate(this.#path, 0o022);
    if (text === undefined) return [];
    const parsed = parseTrust(text);
    if (parsed.ok) return parsed.value;
    throw new CommandError(
      "ConfigUnusable",
      `${visible(this.#path)}: ${parsed.problems}: correct it, or remove the line`,
    );
  }

  #secret(): Uint8Array {
    const path = join(this.#folder, "device.key");
    const read = () => {
      const text = readPrivate(path, 0o077);
      const key = text === undefined ? undefined : keyIn(text);
      if (text !== undefined && key?.length !== KEY_OCTETS) {
        throw new CommandError(
          "ConfigUnusable",
          `${visible(path)} is no key of a device: restore it, or remove it to get a new key`,
        );
      }
      return key;
    };
    const before = read();
    if (before !== undefined) return before;
    return this.#locked(() => {
      const other = read();
      if (other !== undefined) return other;
      const made = crypto.getRandomValues(new Uint8Array(KEY_OCTETS));
      replace(path, `${encodeBase64url(made)}\n`);
      return made;
    });
  }

  #locked<T>(act: () => T): T {
    try {
      mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
      const lock = new FileLock(join(this.#folder, "trust.lock"), LOCK_PATIENCE);
      try {
        return act();
      } finally {
        lock.release();
      }
    } catch (error) {
      if (error instanceof LockHeld)
        throw new CommandError("StateInUse", `${error.message}: try again when it is done`);
      if (error instanceof CommandError) throw error;
      const cure = "set XDG_CONFIG_HOME to a folder in which this user may write";
      throw new CommandError(
        "CannotWrite",
        `cannot write in ${visible(this.#folder)} (${codeOf(error) ?? error}): ${cure}`,
      );
    }
  }
}

/** The key in a text; undefined if it is none. */
function keyIn(text: string): Uint8Array | undefined {
  return /^[\w-]{43}$/.test(text.trim()) ? decodeBase64url(text.trim()) : undefined;
}

/** Reads a file; undefined if there is none. @param others permissions of group and others that it must not have */
function readPrivate(path: string, others: number): string | undefined {
  let fd: number | undefined;
  try {
    fd = openSync(path, "r");
    const stats = fstatSync(fd);
    if (process.platform !== "win32" && (stats.mode & others) !== 0) {
      const cure = `run chmod 600 ${visible(path)}`;
      throw new CommandError(
        "ConfigUnusable",
        `others may ${others === 0o077 ? "read or " : ""}change ${visible(path)}: ${cure}`,
      );
    }
    if (stats.size > LONGEST_FILE)
      throw new CommandError("ConfigUnusable", `${visible(path)} is over 1 MiB: shorten it`);
    return readFileSync(fd, "utf8");
  } catch (error) {
    if (codeOf(error) === "ENOENT") return undefined;
    if (error instanceof CommandError) throw error;
    throw new CommandError(
      "CannotRead",
      `cannot read ${visible(path)} (${codeOf(error) ?? error}): make it this user's own`,
    );
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** Readers see the file from before or the one from after, also if the machine fails meanwhile. */
function replace(path: string, text: string): void {
  const fresh = `${path}.new`;
  rmSync(fresh, { force: true });
  const fd = openSync(fresh, "wx", 0o600);
  try {
    writeFileSync(fd, text);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  chmodSync(fresh, 0o600);
  renameSync(fresh, path);
}

/** Changes whenever the file is replaced. */
function stateOf(path: string): string {
  try {
    const { ino, size, mtimeMs } = statSync(path);
    return `${ino} ${size} ${mtimeMs}`;
  } catch {
    return "";
  }
}
