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
import { type EndSignal, EXIT_CODES, statusOfSignal } from "../exit-codes.ts";
import { FileKeyring, type KeyringOptions } from "../keyring/file-keyring.ts";
import type { TrustLine } from "../keyring/trust-text.ts";

export interface StreamDevice {
  readonly device: Device;
  /** Aborts when the command is to end. */
  readonly signal: AbortSignal;
}

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
}

/**
 * Connects, runs, and closes. Ends with a signal, when `run` has ended, or when the device is lost for good.
 *
 * @returns the exit status
 * @throws DeviceError, CommandError
 */
export async function withStreamDevice(
  { options, keyring, interrupted, isEndless }: StreamCommand,
  run: (device: StreamDevice) => Promise<number>,
): Promise<number> {
  const ending = new AbortController();
  let ended: EndSignal | undefined;
  void interrupted.then((signal) => {
    ended = signal;
    ending.abort();
  });
  const { signal } = ending;
  const keys = new FileKeyring({ tell: tellTrust, ...keyring });
  let device: Device | undefined;
  try {
    device = await connect({ ...options, keyring: keys, receive: "streams", signal });
    return await Promise.race([run({ device, signal }), untilLost(device)]);
  } catch (error) {
    if (ended === undefined) throw error;
    return isEndless ? EXIT_CODES.Done.status : statusOfSignal(ended);
  } finally {
    ending.abort();
    await device?.close();
  }
}

/** Rejects when the device is lost for good; until it is closed, it never resolves. */
async function untilLost(device: Device): Promise<never> {
  for await (const message of device.messages()) message.done();
  throw new DeviceError("Closed", "the device was closed");
}

/** Makes the first connection, however long that takes. */
async function connect(options: DeviceOptions): Promise<Device> {
  const pause = new ReconnectPause();
  for (let isTold = false; ; isTold = true) {
    try {
      const device = await Device.connect(options);
      if (isTold) tell("connected");
      return device;
    } catch (error) {
      if (!(error instanceof DeviceError) || !error.retryable || options.signal?.aborted) throw error;
      if (!isTold) tell(`${error.message} [${error.code}]; retrying until it succeeds`);
      const rest = (error.retryAfter ?? 0) * 1000 + Math.random() * pause.next();
      await sleep(rest, undefined, { signal: options.signal }).catch(() => undefined);
    }
  }
}

function tellTrust({ kind, address, key }: TrustLine, isNew: boolean): void {
  const fingerprint = formatFingerprint(key);
  if (kind === "pin")
    tell(`${address} has the key ${fingerprint}; it is pinned from now on: compare it with its owner`);
  if (kind === "accept") tell(`accepted ${address} with the key ${fingerprint}`);
  if (kind === "pending" && isNew) {
    tell(`refused ${address}, whose key is unknown; to accept it: grooveway trust ${address} ${fingerprint}`);
  }
}
