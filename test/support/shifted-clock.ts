/** A wall clock of one process that the test shifts: see shifted-clock.c. The machine's own clock is never touched. */
import { preloaded } from "./preloaded.ts";

export interface ShiftedClock {
  /** Environment of the processes that have this clock. */
  readonly env: Readonly<Record<string, string>>;
  /** Sets it so many seconds ahead of the machine's. */
  shift(seconds: number): void;
}

/** Returns a clock that is right; undefined where none can be made. */
export function shiftedClock(): ShiftedClock | undefined {
  const library = preloaded("shifted-clock.c", "SHIFTED_CLOCK", Buffer.alloc(8));
  return (
    library && {
      env: library.env,
      shift(seconds) {
        const bytes = Buffer.alloc(8);
        bytes.writeBigInt64LE(BigInt(seconds));
        library.steer(bytes);
      },
    }
  );
}
