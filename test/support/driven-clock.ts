/**
 * A clock for all of a process, or of an isolate: from now on, time passes so many times as fast. Imported first. Timers
 * that are set already keep their time.
 */
const real = Date.now.bind(Date);
const performanceNow = performance.now.bind(performance);
const { setTimeout: realTimeout, setInterval: realInterval } = globalThis;

let speed = 1;
/** When the speed was set, in real and in driven milliseconds. */
let [at, then] = [0, 0];

export function setSpeed(times: number): void {
  [at, then] = [real(), Date.now()];
  speed = times;
}

/** The real time at which it is this time, for those who have a clock of their own. */
export function realTime(time: number): number {
  return speed === 1 ? time : at + (time - then) / speed;
}

/** Milliseconds since 1970, whatever the speed. */
export const realNow = real;

Date.now = () => (speed === 1 ? real() : then + (real() - at) * speed);
let performanceBase: number | undefined;
performance.now = () => {
  if (speed === 1) return performanceNow();
  performanceBase ??= performanceNow() - (real() - at);
  return performanceBase + Date.now() - then;
};
globalThis.setTimeout = ((run: () => void, delay = 0, ...args: []) =>
  realTimeout(run, delay / speed, ...args)) as typeof globalThis.setTimeout;
globalThis.setInterval = ((run: () => void, delay = 0, ...args: []) =>
  realInterval(run, delay / speed, ...args)) as typeof globalThis.setInterval;
const waits = (globalThis as { scheduler?: { wait(delay: number, options?: object): Promise<void> } }).scheduler;
if (waits !== undefined) {
  const wait = waits.wait.bind(waits);
  waits.wait = (delay, options) => wait(delay / speed, options);
}
