# syntax=docker/dockerfile:1

FROM node:20-bookworm-slim AS packages
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund && npm cache clean --force

FROM node:20-bookworm-slim
ENV NODE_ENV=production
WORKDIR /app
# A volume mounted here takes over the owner: the process writes its spool as `node`.
RUN mkdir -p /data/spool && chown node:node /data/spool
COPY --from=packages /app/node_modules ./node_modules
COPY package.json tsconfig.json ./
COPY scripts ./scripts
# The samples of gvi send.
COPY test/fixtures/calendly_invitee_created.json test/fixtures/readai_meeting_completed.json ./test/fixtures/
COPY src ./src
USER node
EXPOSE 8000

# A worker answers on WORKER_PORT, ingest on PORT; a worker without WORKER_PORT has nothing to ask, so set it.
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s --retries=3 \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.WORKER_PORT || process.env.PORT || 8000}/healthz`).then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]

# TypeScript is run as it is (docs/adr/0004-run-typescript-directly.md). A worker: node --import tsx src/consumers/main.ts
CMD ["node", "--import", "tsx", "src/ingest/main.ts"]
