/**
 * The subcommands of `grooveway`.
 *
 * @module
 */
import type { ListedCommand } from "./parse-arguments.ts";

/** Subcommands are loaded on demand: --help must not load the database or workerd. */
export const COMMANDS: Readonly<Record<string, ListedCommand>> = {
  start: {
    summary: "try it on this machine: a relay, the edge, two devices and a file",
    load: async () => (await import("./commands/start.ts")).startCommand,
  },
  relay: {
    summary: "run an origin relay: SSTP over TCP, with a queue for every device",
    load: async () => (await import("./commands/relay.ts")).relayCommand,
  },
  edge: { summary: "run the edge on this machine", load: async () => (await import("./commands/edge.ts")).edgeCommand },
  token: {
    summary: "create keys and tokens, and inspect tokens",
    load: async () => (await import("./commands/token.ts")).tokenCommand,
  },
  login: {
    summary: "check a token, and keep it with its edge and address in a profile",
    load: async () => (await import("./commands/login.ts")).loginCommand,
  },
  logout: {
    summary: "remove a profile",
    load: async () => (await import("./commands/logout.ts")).logoutCommand,
  },
  send: {
    summary: "send files to a device or an identity",
    load: async () => (await import("./commands/send.ts")).sendCommand,
  },
  recv: {
    summary: "receive files and messages sent to this device",
    load: async () => (await import("./commands/recv.ts")).recvCommand,
  },
  inbox: {
    summary: "make URLs for webhooks, which wait for this machine",
    load: async () => (await import("./commands/inbox.ts")).inboxCommand,
  },
  call: {
    summary: "ask an HTTP service of another device",
    load: async () => (await import("./commands/call.ts")).callCommand,
  },
  expose: {
    summary: "offer TCP services of this machine to other devices",
    load: async () => (await import("./commands/expose.ts")).exposeCommand,
  },
  forward: {
    summary: "make services of other devices available on this machine",
    load: async () => (await import("./commands/forward.ts")).forwardCommand,
  },
  connect: {
    summary: "expose and forward what a file lists, and follow its changes",
    load: async () => (await import("./commands/connect.ts")).connectCommand,
  },
  service: {
    summary: "let the system run expose or connect",
    load: async () => (await import("./commands/service.ts")).serviceCommand,
  },
  ls: {
    summary: "list the services that a device exposes",
    load: async () => (await import("./commands/ls.ts")).lsCommand,
  },
  id: {
    summary: "print the fingerprint of this user's devices",
    load: async () => (await import("./commands/id.ts")).idCommand,
  },
  trust: {
    summary: "say whose devices may connect to what is exposed here",
    load: async () => (await import("./commands/trust.ts")).trustCommand,
  },
  doctor: {
    summary: "find out what this network lets through to an edge",
    load: async () => (await import("./commands/doctor.ts")).doctorCommand,
  },
  mailbox: {
    summary: "inspect and manage the mailboxes of an edge",
    load: async () => (await import("./commands/mailbox.ts")).mailboxCommand,
  },
  deploy: {
    summary: "check the configuration of an edge before it is deployed to Cloudflare",
    load: async () => (await import("./commands/deploy.ts")).deployCommand,
  },
  top: {
    summary: "show what an edge does, again and again",
    load: async () => (await import("./commands/top.ts")).topCommand,
  },
  completion: {
    summary: "print a script with which bash, zsh or fish completes this command",
    load: async () => (await import("./commands/completion.ts")).completionCommand(COMMANDS),
  },
};
