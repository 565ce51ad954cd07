/**
 * The WebSocket of browsers. It sends no header of ours, so the token goes into Connect, and does not say why a
 * connection was refused.
 *
 * @module
 */
import { DeviceError } from "../device-error.ts";
import { DRAIN_INTERVAL, UNREAD_MESSAGES, WRITE_AHEAD } from "../limits.ts";
import type { OpenMessageSocket } from "./websocket-transport.ts";

/** What this file uses of a WebSocket [WHATWG WebSockets]. */
interface WebSocketOfPlatform {
  binaryType: string;
  readonly bufferedAmount: number;
  send(data: Uint8Array | string): void;
  close(code?: number): void;
  addEventListener(type: "open" | "message" | "error" | "close", listener: (event: WebSocketEvent) => void): void;
}

interface WebSocketEvent {
  /** Of a message. */
  readonly data: ArrayBuffer | string;
  /** Of the end. */
  readonly code: number;
  readonly reason: string;
}

/** Opens WebSockets by the platform's own class. */
export function webWebSockets(edge: URL): OpenMessageSocket {
  return (url, { onOpen, onMessage, onSent, onClose }) => {
    const { WebSocket } = globalThis as unknown as { WebSocket: new (url: string) => WebSocketOfPlatform };
    const socket = new WebSocket(url.href);
    socket.binaryType = "arraybuffer";
    let isOpen = false;
    let isOver = false;
    let isPaused = false;
    /** Bytes that have come since the pause. */
    let unread = 0;
    let draining: ReturnType<typeof setInterval> | undefined;
    const end = (code: number, reason: string, why?: DeviceError) => {
      if (isOver) return;
      isOver = true;
      clearInterval(draining);
      onClose(code, reason, why);
    };
    /** The platform does not report what has left. */
    const watchOutput = () => {
      draining ??= setInterval(() => {
        if (socket.bufferedAmount > WRITE_AHEAD) return;
        clearInterval(draining);
        draining = undefined;
        onSent();
      }, DRAIN_INTERVAL);
    };
    const overrun = (octets: number) => {
      unread += octets;
      if (unread <= UNREAD_MESSAGES) return;
      const text = "the connection was lost: the edge sends more than this device has asked for; is it another server?";
      end(1006, "", new DeviceError("ConnectFailed", text));
      socket.close();
    };
    socket.addEventListener("open", () => {
      isOpen = true;
      onOpen();
    });
    socket.addEventListener("message", ({ data }) => {
      if (isOver) return;
      onMessage(typeof data === "string" ? data : new Uint8Array(data));
      if (isPaused) overrun(typeof data === "string" ? data.length : data.byteLength);
    });
    // Node reports some refusals by an error alone.
    socket.addEventListener("error", () => (isOpen ? undefined : end(1006, "", refused(edge))));
    socket.addEventListener("close", ({ code, reason }) => end(code, reason, isOpen ? undefined : refused(edge)));
    return {
      get bufferedAmount() {
        return socket.bufferedAmount;
      },
      send(data) {
        if (isOver) return;
        socket.send(data);
        if (socket.bufferedAmount > WRITE_AHEAD) watchOutput();
      },
      pause() {
        isPaused = true;
      },
      resume() {
        isPaused = false;
        unread = 0;
      },
      close: () => socket.close(1000),
      terminate() {
        // The platform would wait for the other side's answer.
        end(1006, "");
        socket.close();
      },
    };
  };
}

function refused({ origin }: URL): DeviceError {
  const cure =
    "check the URL; a proxy or firewall in between may not pass WebSockets, or the page's connect-src forbids it";
  return new DeviceError(
    "ConnectFailed",
    `no connection by websocket to ${origin}, and browsers do not say why: ${cure}`,
  );
}
