/**
 * Signals that ask the command to end. The first one is heard, and the command ends in order; the second one ends it at
 * once, by the system itself, whatever the command is doing.
 *
 * @module
 */
import { END_SIGNALS, type EndSignal, endingOfSignal } from "./exit-codes.ts";
import { CommandError } from "./output.ts";

const waiting = new Set<(signal: EndSignal) => void>();

function onSignal(signal: NodeJS.Signals): void {
  // Without a listener the system ends the process with the next one.
  for (const name of END_SIGNALS) process.removeAllListeners(name);
  for (const resolve of waiting) resolve(signal as EndSignal);
  waiting.clear();
}

/**
 * Miniflare's own handlers end the process before anybody can be told that it ends. What it started is disposed of by
 * whoever waits here, or with the process.
 */
function keepOthersOut(event: string | symbol, listener: (...args: unknown[]) => void): void {
  if (!END_SIGNALS.some((name) => name === event) || (listener as unknown) === onSignal) return;
  queueMicrotask(() => process.removeListener(event, listener));
}

/**
 * Resolves with the first signal that asks the process to end. Call it before anybody is told that the command is up: they
 * may have enough at once.
 */
export function untilInterrupted(): Promise<EndSignal> {
  return new Promise((resolve) => {
    waiting.add(resolve);
    process.removeListener("newListener", keepOthersOut);
    process.on("newListener", keepOthersOut);
    for (const name of END_SIGNALS) {
      const before = process.listeners(name);
      // Ours first: a signal that comes while there is no listener is lost.
      if (!before.includes(onSignal)) process.on(name, onSignal);
      for (const other of before) if (other !== onSignal) process.removeListener(name, other);
    }
  });
}

/**
 * What some work gives, unless a signal comes before. The work is not stopped: the caller ends the process, or what the
 * work uses.
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

/** The error of a command that a signal has ended before it was done. */
export function interruption(signal: EndSignal): CommandError {
  return new CommandError("Interrupted", `ended by ${signal} before it was done`, endingOfSignal(signal));
}
