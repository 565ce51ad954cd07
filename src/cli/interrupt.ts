/**
 * Signals that ask the command to end. On the first one the command shuts down cleanly. The second one has no listener,
 * so the system kills the process at once, whatever it is doing.
 *
 * @module
 */

import { CommandError } from "./command-error.ts";
import { END_SIGNALS, type EndSignal, endingOfSignal } from "./exit-codes.ts";

const waiting = new Set<(signal: EndSignal) => void>();

function onSignal(signal: NodeJS.Signals): void {
  // Remove all listeners, so that the next signal kills the process.
  for (const name of END_SIGNALS) process.removeAllListeners(name);
  for (const resolve of waiting) resolve(signal as EndSignal);
  waiting.clear();
}

/**
 * Removes signal handlers that a library installs: they exit the process before the command can shut down. The caller
 * of {@link untilInterrupted} disposes of what was started, or it ends with the process.
 */
function keepOthersOut(event: string | symbol, listener: (...args: unknown[]) => void): void {
  if (!END_SIGNALS.some((name) => name === event) || (listener as unknown) === onSignal) return;
  queueMicrotask(() => process.removeListener(event, listener));
}

/**
 * Resolves with the first signal that asks the process to end. Call this before announcing that the command is up: the
 * reader of that line may send a signal at once.
 */
export function untilInterrupted(): Promise<EndSignal> {
  return new Promise((resolve) => {
    waiting.add(resolve);
    process.removeListener("newListener", keepOthersOut);
    process.on("newListener", keepOthersOut);
    for (const name of END_SIGNALS) {
      const before = process.listeners(name);
      // Add our listener first: a signal that arrives while there is none would be lost.
      if (!before.includes(onSignal)) process.on(name, onSignal);
      for (const other of before) if (other !== onSignal) process.removeListener(name, other);
    }
  });
}

/**
 * Returns the result of `work`, unless a signal arrives first. The work is not stopped: the caller ends the process or
 * closes what the work uses.
 *
 * @param interrupted from {@link untilInterrupted}
 * @throws CommandError Interrupted
 */
export function unlessInterrupted<T>(interrupted: Promise<EndSignal>, work: Promise<T>): Promise<T> {
  const ended = interrupted.then((signal): never => {
    throw interruption(signal);
  });
  return Promise.race([ended, work]);
}

/** Returns the error of a command that a signal ended early. */
export function interruption(signal: EndSignal): CommandError {
  return new CommandError("Interrupted", `ended by ${signal} before it was done`, endingOfSignal(signal));
}
