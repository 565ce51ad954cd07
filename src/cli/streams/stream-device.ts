/**
 * The device of a command that carries streams: it has the keyring of this user, takes streams and leaves messages in
 * its mailbox, and waits for its edge.
 *
 * @module
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Device, DeviceError, type DeviceOptions, formatFingerprint } from "../../device/index.ts";
import { ReconnectPause } from "../../device/reconnect.ts";
import { visible } from "../../lib/printable.ts";
import { edgeLost } from "../device-options.ts";
import { withCode } from "../error-line.ts";
import { type EndSignal, EXIT_CODES, statusOfSignal } from "../exit-codes.ts";
import { FileKeyring, type KeyringOptions, type TrustNews } from "../keyring/file-keyring.ts";
import { StreamLog } from "./stream-log.ts";

export interface StreamDevice {
  readonly device: Device;
  /** Aborts when the command is to end. */
  readonly signal: AbortSignal;
}

/** Devices whose refusal is reported: their addresses may be made up. */
const REFUSED_LINES = 100;

export function tell(line: string): void {
  console.error(`grooveway: ${visible(line)}`);
}

export interface StreamCommand {
  readonly options: DeviceOptions;
  readonly keyring?: KeyringOptions;
  /** From `untilInterrupted`, called before anything is announced. */
  readonly interrupted: Promise<EndSignal>;
  /** Whether the command ends only when it is interrupted. */
  readonly isEndless: boolean;
  /** Default: lines on standard error. */
  readonly log?: StreamLog;
}

/**
 * Connects, runs, and closes. Ends with a signal, when `run` has ended, or when the device is lost for good.
 *
 * @returns the exit status
 * @throws DeviceError, CommandError
 */
export async function withStreamDevice(
  { options, keyring, interrupted, isEndless, log = new StreamLog() }: StreamCommand,
  run: (device: StreamDevice) => Promise<number>,
): Promise<number> {
  const ending = new AbortController();
  let ended: EndSignal | undefined;
  void interrupted.then((signal) => {
    ended = signal;
    ending.abort();
  });
  const { signal } = ending;
  const keys = new FileKeyring({ tell: (line, isNew) => tellTrust(log, line, isNew), ...keyring });
  let device: Device | undefined;
  try {
    device = await connect({ ...options, ...logged(log), keyring: keys, receive: "streams", signal }, log);
    if (isEndless) log.watch(device);
    return await Promise.race([run({ device, signal }), untilLost(device)]);
  } catch (error) {
    if (ended === undefined) throw error;
    return isEndless ? EXIT_CODES.Done.status : statusOfSignal(ended);
  } finally {
    ending.abort();
    log.end();
    await device?.close();
  }
}

/** Rejects when the device is lost for good; until it is closed, it never resolves. */
async function untilLost(device: Device): Promise<never> {
  for await (const message of device.messages()) message.done();
  throw new DeviceError("Closed", "the device was closed");
}

/** Makes the first connection, however long that takes. */
async function connect(options: DeviceOptions, log: StreamLog): Promise<Device> {
  const pause = new ReconnectPause();
  for (let isTold = false; ; isTold = true) {
    try {
      const device = await Device.connect(options);
      log.connected(device, isTold);
      return device;
    } catch (error) {
      if (!(error instanceof DeviceError) || !error.retryable || options.signal?.aborted) throw error;
      if (!isTold) log.tell(`${withCode(error.message, error.code)}; retrying until it succeeds`, "waiting");
      const rest = (error.retryAfter ?? 0) * 1000 + Math.random() * pause.next();
      await sleep(rest, undefined, { signal: options.signal }).catch(() => undefined);
    }
  }
}

/** Says that the connection is lost, and what follows. */
function logged(
  log: StreamLog,
): Pick<DeviceOptions, "onReconnect" | "onEdgeLost" | "onStreamsRefused" | "onUnanswered"> {
  const refused = new Set<string>();
  const unanswered = new Set<string>();
  return {
    onReconnect: ({ message }) => log.tell(`${message}; reconnecting`, "reconnecting"),
    onEdgeLost: (edge, error) => log.tell(edgeLost(edge, error), "edge-lost"),
    onUnanswered: (address, { message, code }) => {
      if (unanswered.has(address) || unanswered.size >= REFUSED_LINES) return;
      unanswered.add(address);
      log.tell(`cannot answer ${address}: ${withCode(message, code)}`, "unanswered");
    },
    onStreamsRefused: (address, reason) => {
      // Each device once, and no more lines than a person reads. The keyring tells of keys.
      if (reason !== "SuiteRefused" || refused.has(address) || refused.size >= REFUSED_LINES) return;
      refused.add(address);
      const cure = "give both devices --plain, or neither";
      log.tell(`refused ${address}: only one of the two wants plain connections: ${cure} [${reason}]`, "refused");
    },
  };
}

function tellTrust(log: StreamLog, { kind, address, key }: TrustNews, isNew: boolean): void {
  const fingerprint = formatFingerprint(key);
  if (kind === "pin")
    log.tell(`${address} has the key ${fingerprint}; it is pinned from now on: compare it with its owner`, "pinned");
  if (kind === "accept") log.tell(`accepted ${address} with the key ${fingerprint}`, "accepted");
  if (kind === "pending" && isNew) {
    const cure = `to accept it: grooveway trust ${address} ${fingerprint}`;
    log.tell(`refused ${address}, whose key is unknown; ${cure}`, "refused");
  }
  if (kind === "changed") {
    const cure = `if its owner confirms this, pin it: grooveway trust --pin ${address} ${fingerprint}`;
    log.tell(`${address} has another key than the pinned one: ${fingerprint}; ${cure}`, "changed");
  }
}
