/**
 * The ways from the near to the far side that streams are measured on: those of the product, of other tunnels, and floors.
 *
 * `forward` ways: near side, TCP, `grooveway forward`, edge, `grooveway expose`, TCP, far side. The peers are measured the
 * same way: by their programs. `forward --to` ways: the edge itself dials the far side. `device` ways: the library in the
 * near and in the far side, without the two TCP hops.
 */
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type DeviceOptions, publicKeyOf } from "../../src/device/index.ts";
import { Child } from "../support/rpc.ts";
import { type Running, startEdge, startObjectsWorker } from "./edges.ts";
import type { Exposing } from "./far.ts";
import type { Way } from "./lines.ts";
import { installPackages, type Peer, startHttptunnel, startPiping, startWstunnel } from "./peers.ts";
import type { ProcessTree } from "./process-trees.ts";
import { SSH, startSshTunnels } from "./ssh-tunnels.ts";
import { startBareOriginTunnel, startBareTunnel, startOriginTunnel, startTunnel } from "./stream-programs.ts";

export const TRANSPORTS = ["websocket", "longlived", "keepalive", "polling"] as const;
export type Measured = (typeof TRANSPORTS)[number];

export const TCP = "plain TCP";
export const OBJECTS = "bare worker, two objects";
/** The floors: the same hops by the same platform, and the same cipher, with nothing of the product between. */
export const SEALED = "bare worker, two objects, sealed";
export const BARE_FORWARD = "bare forward, sealed";
export const BARE_ORIGIN = "bare forward to TCP";
export const BARE_ORIGIN_APART = "bare forward to TCP, two objects";
export const WSTUNNEL = "wstunnel 1.4.0";
export const HTTPTUNNEL = "httptunnel 3.3";
export const PIPING = "piping-server 1.12.9";

export const forwardBy = (transport: Measured) => `forward, ${transport}`;
export const plainBy = (transport: Measured) => `forward --plain, ${transport}`;
export const originBy = (transport: Measured) => `forward --to, ${transport}`;
export const deviceBy = (transport: Measured) => `device, ${transport}`;

/** Streams that every way carries at a time. */
export const SEVERAL = 16;

/** How often a tunnel is begun whose port is taken when it listens. */
const PORT_TRIES = 3;

/** A way from the near to the far side. */
export interface Row {
  readonly name: string;
  /** The way of the stream of a number: some peers need a tunnel for each. */
  readonly way: (stream: number) => Way;
  /** Streams that it carries at a time, if it has a limit. */
  readonly most?: number;
  /** The programs between the two sides. */
  readonly processes: readonly ProcessTree[];
  readonly against: readonly string[];
  readonly skipped?: string;
}

/** The two sides, and all that is between them. */
export class Place {
  readonly near = new Child(new URL("near.ts", import.meta.url));
  readonly far = new Child(new URL("far.ts", import.meta.url));
  readonly #folder = mkdtempSync(join(tmpdir(), "grooveway-bench-"));
  readonly #closing: (() => Promise<void>)[] = [];
  #sshTunnels: Promise<Peer[]> | undefined;

  /** Near and far side. */
  get sides(): readonly ProcessTree[] {
    return [
      { name: "near", pid: this.near.pid ?? 0 },
      { name: "far", pid: this.far.pid ?? 0 },
    ];
  }

  /** Opens the ways whose names match. */
  async open(wanted: RegExp): Promise<Row[]> {
    const missing = await installPackages();
    const port = await this.far.call<number>("listen");
    const edge = this.#owned(await startEdge([`127.0.0.1:${port}`], { streamAllow: [`127.0.0.1:${port}`] }));
    const straight: Row = { name: TCP, way: () => ({ kind: "tcp", port }), processes: [], against: [] };
    const makers: readonly (readonly [string, () => Row | Promise<Row>])[] = [
      [TCP, () => straight],
      ...Object.values(SSH).map((name) => [name, () => this.#ssh(name, port)] as const),
      [WSTUNNEL, async () => this.#tunnelRow(await startWstunnel(port, missing), [TCP])],
      [HTTPTUNNEL, () => this.#httptunnels(port)],
      [PIPING, () => this.#piping(missing)],
      [OBJECTS, () => this.#objects()],
      [SEALED, () => this.#sealedObjects()],
      [BARE_FORWARD, async () => this.#tunnelRow(await startBareTunnel(BARE_FORWARD, await this.#worker(), port), [])],
      [
        BARE_ORIGIN,
        async () =>
          this.#tunnelRow(await startBareOriginTunnel(BARE_ORIGIN, "plain", await this.#worker(), port), [
            WSTUNNEL,
            HTTPTUNNEL,
          ]),
      ],
      [
        BARE_ORIGIN_APART,
        async () =>
          this.#tunnelRow(await startBareOriginTunnel(BARE_ORIGIN_APART, "apart", await this.#worker(), port), [
            BARE_ORIGIN,
            WSTUNNEL,
          ]),
      ],
      ...TRANSPORTS.map((transport) => [forwardBy(transport), () => this.#forward(transport, port, edge)] as const),
      ...TRANSPORTS.map((transport) => [plainBy(transport), () => this.#forward(transport, port, edge, true)] as const),
      ...TRANSPORTS.map((transport) => [originBy(transport), () => this.#origin(transport, port, edge)] as const),
      ...TRANSPORTS.map((transport) => [deviceBy(transport), () => this.#device(transport, edge)] as const),
    ];
    const rows: Row[] = [];
    for (const [name, make] of makers) if (wanted.test(name)) rows.push(await make());
    return rows;
  }

  async close(): Promise<void> {
    await this.near.end();
    await this.far.end();
    for (const close of this.#closing.reverse()) await close();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #owned<T extends { close(): Promise<void> }>(started: T): T {
    this.#closing.push(() => started.close());
    return started;
  }

  #tunnelRow(peer: Peer, against: readonly string[]): Row {
    if ("skipped" in peer) return skipped(peer.name, peer.skipped);
    const { name, port, processes } = this.#owned(peer);
    return { name, way: () => ({ kind: "tcp", port }), processes, against };
  }

  async #ssh(name: string, port: number): Promise<Row> {
    this.#sshTunnels ??= startSshTunnels(port, join(this.#folder, "ssh"));
    const peer = (await this.#sshTunnels).find((one) => one.name === name);
    return peer === undefined ? skipped(name, "it was not started") : this.#tunnelRow(peer, [TCP]);
  }

  /** A pair of programs carries one connection at a time. */
  async #httptunnels(port: number): Promise<Row> {
    const pairs = await Promise.all(Array.from({ length: SEVERAL }, () => this.#httptunnel(port)));
    const failed = pairs.find(({ skipped: why }) => why !== undefined);
    return (
      failed ?? {
        name: HTTPTUNNEL,
        most: pairs.length,
        way: (stream) => pairs[stream % pairs.length]?.way(0) ?? { kind: "tcp", port },
        processes: pairs.flatMap(({ processes }) => processes),
        against: [TCP],
      }
    );
  }

  async #httptunnel(port: number): Promise<Row> {
    let row = this.#tunnelRow(await startHttptunnel(port), [TCP]);
    // Another program may have taken a port that was free.
    for (let tries = 1; row.skipped !== undefined && tries < PORT_TRIES; tries += 1) {
      row = this.#tunnelRow(await startHttptunnel(port), [TCP]);
    }
    return row;
  }

  async #piping(missing: string | undefined): Promise<Row> {
    const peer = await startPiping(missing);
    if ("skipped" in peer) return skipped(peer.name, peer.skipped);
    const { name, port, processes } = this.#owned(peer);
    await this.far.call("answerPipes", port);
    return { name, way: () => ({ kind: "piping", port }), processes, against: [TCP] };
  }

  /** A worker of its own for each floor: the names of its objects are counted by its clients. */
  async #worker(): Promise<Running> {
    return this.#owned(await startObjectsWorker());
  }

  async #sealedObjects(): Promise<Row> {
    const { port, pid } = await this.#worker();
    await this.far.call("answerSealedObjects", port);
    const processes = [{ name: "workerd", pid }];
    return { name: SEALED, way: () => ({ kind: "sealed objects", port }), processes, against: [OBJECTS] };
  }

  async #objects(): Promise<Row> {
    const { port, pid } = await this.#worker();
    await this.far.call("answerObjects", port);
    const processes = [{ name: "workerd", pid }];
    return { name: OBJECTS, way: () => ({ kind: "objects", port }), processes, against: [TCP] };
  }

  async #forward(transport: Measured, target: number, { port, pid }: Running, isPlain = false): Promise<Row> {
    const folders = { forward: this.#ownFolder("forward"), expose: this.#ownFolder("expose") };
    const name = isPlain ? plainBy(transport) : forwardBy(transport);
    const edge = `http://127.0.0.1:${port}`;
    const options = isPlain ? ["--plain"] : [];
    const tunnel = await startTunnel({ name, edge, transport, options, target, folders, edgePid: pid });
    return this.#tunnelRow(tunnel, [BARE_FORWARD, SSH.jump, WSTUNNEL, HTTPTUNNEL]);
  }

  /** The edge itself dials the far side. */
  async #origin(transport: Measured, target: number, { port, pid }: Running): Promise<Row> {
    const edge = `http://127.0.0.1:${port}`;
    const folder = this.#ownFolder("forward");
    const name = originBy(transport);
    return this.#tunnelRow(await startOriginTunnel({ name, edge, transport, target, folder, edgePid: pid }), [
      BARE_ORIGIN_APART,
      BARE_ORIGIN,
      WSTUNNEL,
      HTTPTUNNEL,
    ]);
  }

  #ownFolder(name: string): string {
    const folder = join(this.#folder, name);
    mkdirSync(folder, { recursive: true });
    return folder;
  }

  async #device(transport: Measured, { port, pid }: Running): Promise<Row> {
    const common = { edge: `http://127.0.0.1:${port}`, transport } as const;
    const own: DeviceOptions = { ...common, address: `bench-near/${transport}` };
    const other: DeviceOptions = { ...common, address: `bench-far/${transport}` };
    const [secretKey, otherKey] = [randomBytes(32), randomBytes(32)];
    const dialer = { address: own.address, key: Buffer.from(publicKeyOf(secretKey)).toString("hex") };
    await this.far.call("expose", { options: other, secretKey: otherKey.toString("hex"), dialer } satisfies Exposing);
    const way: Way = { kind: "stream", options: own, secretKey: secretKey.toString("hex"), to: other.address };
    const processes = [{ name: "workerd", pid }];
    return { name: deviceBy(transport), way: () => way, processes, against: [SEALED, OBJECTS] };
  }
}

function skipped(name: string, why: string): Row {
  return { name, way: () => ({ kind: "tcp", port: 0 }), processes: [], against: [], skipped: why };
}
