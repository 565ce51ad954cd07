/** What processes and all that they have started use. */
import { readdirSync, readFileSync } from "node:fs";
import { cpuSeconds, residentOctets } from "./edges.ts";

/** A process, with those that it has started. */
export interface ProcessTree {
  readonly name: string;
  readonly pid: number;
}

/** Seconds of CPU time by the name of the process; those of the same name together. What has ended does not count. */
export function cpuSecondsBy(trees: readonly ProcessTree[]): Map<string, number> {
  return sumsBy(trees, cpuSeconds);
}

/** Resident memory in octets by the name of the process; that of the same name together. */
export function residentOctetsBy(trees: readonly ProcessTree[]): Map<string, number> {
  return sumsBy(trees, residentOctets);
}

function sumsBy(trees: readonly ProcessTree[], of: (pid: number) => number): Map<string, number> {
  const children = childrenByParent();
  const sums = new Map<string, number>();
  for (const { name, pid } of trees) {
    const members = [pid];
    for (const member of members) members.push(...(children.get(member) ?? []));
    sums.set(
      name,
      members.reduce((sum, member) => sum + of(member), sums.get(name) ?? 0),
    );
  }
  return sums;
}

function childrenByParent(): Map<number, number[]> {
  const children = new Map<number, number[]>();
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const [, parent] = /\) \S (\d+) /.exec(readFileSync(`/proc/${entry}/stat`, "utf8")) ?? [];
      children.set(Number(parent), [...(children.get(Number(parent)) ?? []), Number(entry)]);
    } catch {
      // It has ended meanwhile.
    }
  }
  return children;
}
