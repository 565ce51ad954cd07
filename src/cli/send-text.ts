/**
 * Sends one message of text, for `grooveway send --text`.
 *
 * @module
 */
import { Device, type DeviceOptions } from "../device/index.ts";
import { visible } from "../lib/printable.ts";
import { CommandError } from "./command-error.ts";
import { durationText } from "./duration.ts";
import type { ExitName } from "./exit-codes.ts";

/** Milliseconds beyond --wait in which a relay that is there acknowledges, also over a slow line. */
const ANSWER = 15_000;

interface TextToSend {
  readonly way: DeviceOptions;
  readonly to: string;
  readonly text: string;
  /** The value of --wait, in seconds. */
  readonly wait: number;
  /** Aborts when the command is interrupted. */
  readonly signal: AbortSignal;
  /** How an interrupted command ends. */
  readonly ending: () => ExitName | undefined;
  readonly tell: (line: string) => void;
}

/**
 * Resolves with the message's id when the edge or relay has stored it.
 *
 * @throws CommandError WaitedTooLong if the recipient's mailbox has no room, ConnectFailed without a connection, both
 * after `wait`, Interrupted
 * @throws DeviceError those of `Device.connect` and `Device.send`
 */
export async function sendText({ way, to, text, wait, signal, ending, tell }: TextToSend): Promise<string> {
  const recipient = visible(to);
  let isHeld = false;
  const timeUp = AbortSignal.timeout(wait * 1000 + ANSWER);
  const over = AbortSignal.any([signal, timeUp]);
  // A message that may have arrived is not withdrawn: closing the device ends the wait for its acknowledgement.
  const failure = (mayHaveArrived: boolean): CommandError => {
    const fate = mayHaveArrived ? "the message may have arrived" : "the message was not sent";
    if (!timeUp.aborted) return new CommandError("Interrupted", `interrupted: ${fate}`, ending());
    const time = durationText(wait);
    return isHeld
      ? new CommandError("WaitedTooLong", `${recipient} fetched nothing for ${time} (--wait): ${fate}; run recv there`)
      : new CommandError("ConnectFailed", `could not connect for ${time} (--wait): ${fate}`);
  };
  let device: Device;
  try {
    device = await Device.connect({
      ...way,
      receive: false,
      signal: over,
      onHeld: () => {
        isHeld = true;
        tell(`waiting until ${recipient} receives: as much is stored for it as one sender may have waiting`);
      },
      onReleased: () => {
        isHeld = false;
      },
    });
  } catch (error) {
    throw over.aborted ? failure(false) : error;
  }
  try {
    return (await device.send(to, text)).id;
  } catch (error) {
    throw over.aborted ? failure(!isHeld) : error;
  } finally {
    await device.close();
  }
}
