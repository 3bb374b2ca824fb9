// kafkajs behind the line protocol of java/Worker.java: a JSON object per line on standard input,
// one per line back. Object 0 makes producers, consumers and admins, and answers with their ids.
'use strict'

const readline = require('readline')
const { CompressionCodecs, CompressionTypes, Kafka, Partitioners, logLevel } = require('kafkajs')
const lz4 = require('lz4js')
const xxh32 = require('lz4js/xxh32.js')
const snappy = require('snappyjs')
const zstd = require('@bokuweb/zstd-wasm')

const objects = []

const bytes = text => (text === null ? null : Buffer.from(text, 'base64'))
const text = value => (value === null || value === undefined ? null : Buffer.from(value).toString('base64'))

// Java's snappy is framed: a magic, two versions, then blocks with their length.
const XERIAL = Buffer.from([130, 83, 78, 65, 80, 80, 89, 0])

function unsnappy(buffer) {
  if (!buffer.subarray(0, 8).equals(XERIAL)) return snappy.uncompress(buffer)
  const blocks = []
  for (let at = 16; at < buffer.length; ) {
    const size = buffer.readInt32BE(at)
    blocks.push(snappy.uncompress(buffer.subarray(at + 4, at + 4 + size)))
    at += 4 + size
  }
  return Buffer.concat(blocks)
}

// lz4js says that its blocks need the ones before them, which Kafka refuses. One block never does.
function independent(frame) {
  frame[4] |= 0x20
  frame[6] = (xxh32.hash(0, frame, 4, 2) >> 8) & 0xff
  return frame
}

CompressionCodecs[CompressionTypes.Snappy] = () => ({
  compress: async encoder => snappy.compress(encoder.buffer),
  decompress: async buffer => unsnappy(buffer),
})
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async encoder => independent(Buffer.from(lz4.compress(encoder.buffer))),
  decompress: async buffer => Buffer.from(lz4.decompress(buffer)),
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => Buffer.from(zstd.compress(encoder.buffer)),
  decompress: async buffer => Buffer.from(zstd.decompress(buffer)),
})
const CODECS = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
}

// Its own first wait is 300 ms, also after CONCURRENT_TRANSACTIONS and for a topic that is gone.
const retry = { initialRetryTime: 20, maxRetryTime: 1000, retries: 7 }
const kafka = bootstrap => new Kafka({ brokers: [bootstrap], logLevel: logLevel.NOTHING, retry })
const byTopic = triples => triples.map(([topic, partition, offset]) => ({
  topic,
  partitions: [{ partition, offset: String(offset) }],
}))

class Producer {
  constructor(bootstrap, transactionalId, transactionTimeout, codec) {
    this.compression = CODECS[codec]
    this.buffered = [] // kafkajs sends at once; records of one flush go into one request
    this.transaction = null
    this.producer = kafka(bootstrap).producer({
      idempotent: true,
      maxInFlightRequests: 1,
      createPartitioner: Partitioners.DefaultPartitioner,
      ...(transactionalId ? { transactionalId, transactionTimeout } : {}),
    })
    this.connected = this.producer.connect()
  }

  // The first transaction is what asks for the producer id, and fences.
  async init_transactions() {
    await this.connected
    this.transaction = await this.producer.transaction()
    this.isNew = true
  }

  async begin() {
    this.buffered = []
    if (!this.isNew) this.transaction = await this.producer.transaction()
    this.isNew = false
  }

  send(topic, value, partition, key, headers, timestamp) {
    const grouped = {}
    for (const [name, content] of headers) (grouped[name] ||= []).push(bytes(content))
    this.buffered.push({
      topic,
      message: {
        partition,
        key: bytes(key),
        value: bytes(value),
        headers: grouped,
        ...(timestamp === null ? {} : { timestamp: String(timestamp) }),
      },
    })
  }

  async flush() {
    await this.connected
    const sent = this.buffered
    this.buffered = []
    if (!sent.length) return []
    const topics = {}
    for (const { topic, message } of sent) (topics[topic] ||= []).push(message)
    const answers = await (this.transaction || this.producer).sendBatch({
      acks: -1,
      compression: this.compression,
      topicMessages: Object.entries(topics).map(([topic, messages]) => ({ topic, messages })),
    })
    const next = {}
    for (const { topicName, partition, baseOffset } of answers) {
      next[[topicName, partition]] = Number(baseOffset)
    }
    return sent.map(({ topic, message }) => next[[topic, message.partition]]++)
  }

  // kafkajs leaves it to the application to try again while Kafka still ends the last transaction.
  async send_offsets(triples, group) {
    for (const deadline = Date.now() + 20_000; ; await new Promise(done => setTimeout(done, 20))) {
      try {
        const consumerGroupId = objects[group - 1]
        return await this.transaction.sendOffsets({ consumerGroupId, topics: byTopic(triples) })
      } catch (error) {
        if (error.type !== 'CONCURRENT_TRANSACTIONS' || Date.now() > deadline) throw error
      }
    }
  }

  async commit() {
    await this.flush()
    await this.transaction.commit()
  }

  async abort() {
    this.buffered = []
    await this.transaction.abort()
  }

  async close() {
    await this.connected
    await this.producer.disconnect()
  }
}

// kafkajs pushes batches at a function. A batch stays open, and with it the group's generation,
// until the poll after the one that took it: so the application has committed by then.
class Consumer {
  constructor(bootstrap, groupId, committedOnly) {
    this.kafka = kafka(bootstrap)
    this.groupId = groupId || `alone-${process.pid}-${objects.length}`
    this.committedOnly = committedOnly
    this.assigned = []
    this.wanted = null // by assign: all others are left out
    this.batches = []
    this.taken = []
    this.ends = {}
    this.wake = () => {}
    this.closed = false
  }

  async assign(places) {
    this.wanted = new Set(places.map(String))
    await this.start([...new Set(places.map(([topic]) => topic))])
  }

  subscribe(topic) {
    return this.start([topic])
  }

  async start(topics) {
    this.consumer = this.kafka.consumer({
      groupId: this.groupId,
      sessionTimeout: 6000,
      heartbeatInterval: 300,
      maxWaitTimeInMs: 50,
      readUncommitted: !this.committedOnly,
    })
    this.consumer.on(this.consumer.events.GROUP_JOIN, ({ payload }) => {
      this.assigned = Object.entries(payload.memberAssignment).flatMap(([topic, partitions]) =>
        partitions.map(partition => [topic, partition])
      )
    })
    await this.consumer.connect()
    await this.consumer.subscribe({ topics, fromBeginning: true })
    // Not awaited: it ends when the group has formed, and another member here may have to poll first.
    this.running = this.consumer.run({
      autoCommit: false,
      eachBatch: async ({ batch, heartbeat }) => {
        const place = [batch.topic, batch.partition]
        this.ends[place] = Number(batch.highWatermark)
        if (this.closed || (this.wanted && !this.wanted.has(String(place)))) return
        await new Promise(done => {
          const beat = setInterval(() => heartbeat().catch(() => {}), 300)
          this.batches.push({ batch, done: () => done(clearInterval(beat)) })
          this.wake()
        })
      },
    })
  }

  assignment() {
    return this.assigned
  }

  group() {
    return keep(this.groupId)
  }

  async poll(milliseconds) {
    this.release()
    if (!this.batches.length) {
      await new Promise(done => {
        const timer = setTimeout(done, milliseconds)
        this.wake = () => done(clearTimeout(timer))
      })
    }
    this.taken = this.batches
    this.batches = []
    return this.taken.flatMap(({ batch }) =>
      batch.messages.map(message => [
        batch.topic,
        batch.partition,
        Number(message.offset),
        text(message.key),
        text(message.value),
        Object.entries(message.headers || {}).flatMap(([name, content]) =>
          [content].flat().map(one => [name, text(one)])
        ),
        Number(message.timestamp),
      ])
    )
  }

  release() {
    for (const { done } of this.taken) done()
    this.taken = []
  }

  seek([topic, partition], offset) {
    this.consumer.seek({ topic, partition, offset: String(offset) })
    this.batches = this.batches.filter(one => {
      const keeps = one.batch.topic !== topic || one.batch.partition !== partition
      if (!keeps) one.done()
      return keeps
    })
  }

  async commit(triples) {
    await this.consumer.commitOffsets(
      triples.map(([topic, partition, offset]) => ({ topic, partition, offset: String(offset) }))
    )
  }

  async asking(question) {
    const admin = this.kafka.admin()
    await admin.connect()
    try {
      return await question(admin)
    } finally {
      await admin.disconnect()
    }
  }

  async committed([topic, partition]) {
    const [found] = await this.asking(admin =>
      admin.fetchOffsets({ groupId: this.groupId, topics: [topic] })
    )
    const { offset } = found.partitions.find(one => one.partition === partition)
    return offset === '-1' ? null : Number(offset)
  }

  async offset_for_time([topic, partition], timestamp) {
    const found = await this.asking(admin => admin.fetchTopicOffsetsByTimestamp(topic, timestamp))
    return Number(found.find(one => one.partition === partition).offset)
  }

  // kafkajs asks for ends as a reader of committed records only; the others it learns in fetching.
  async end_offset([topic, partition]) {
    if (!this.committedOnly && [topic, partition] in this.ends) return this.ends[[topic, partition]]
    const found = await this.asking(admin => admin.fetchTopicOffsets(topic))
    return Number(found.find(one => one.partition === partition).high)
  }

  async close() {
    this.closed = true
    if (!this.consumer) return
    this.taken.push(...this.batches)
    this.release()
    await this.running
    await this.consumer.disconnect()
  }
}

class Admin {
  constructor(bootstrap) {
    this.admin = kafka(bootstrap).admin()
    this.connected = this.admin.connect()
  }

  async create_topic(topic, numPartitions, config) {
    await this.connected
    const configEntries = Object.entries(config).map(([name, value]) => ({ name, value }))
    const made = await this.admin.createTopics({ topics: [{ topic, numPartitions, configEntries }] })
    if (!made) throw Object.assign(new Error(topic), { type: 'TOPIC_ALREADY_EXISTS' })
  }

  async delete_topic(topic) {
    await this.connected
    await this.admin.deleteTopics({ topics: [topic] })
  }

  async partitions(topic) {
    await this.connected
    if (!(await this.admin.listTopics()).includes(topic)) return null
    const { topics } = await this.admin.fetchTopicMetadata({ topics: [topic] })
    return topics[0].partitions.length
  }

  async topic_config(name) {
    await this.connected
    const { resources } = await this.admin.describeConfigs({ resources: [{ type: 2, name }] })
    return Object.fromEntries(
      resources[0].configEntries.map(({ configName, configValue }) => [configName, configValue])
    )
  }

  async close() {
    await this.connected
    await this.admin.disconnect()
  }
}

const KINDS = { producer: Producer, consumer: Consumer, admin: Admin }

function keep(made) {
  objects.push(made)
  return objects.length
}

async function run({ object, method, arguments: given }) {
  if (object === 0) return keep(new KINDS[method](...given))
  const result = await objects[object - 1][method](...given)
  return result === undefined ? null : result
}

function describe(error) {
  let found = error
  while (found.cause && !found.type) found = found.cause
  const native = found.type || found.code || found.name
  const fenced = ['INVALID_PRODUCER_EPOCH', 'PRODUCER_FENCED'].includes(native)
  return { kind: fenced ? 'fenced' : 'error', native: String(native), text: String(found.message) }
}

async function main() {
  await zstd.init()
  for await (const line of readline.createInterface({ input: process.stdin })) {
    let answer
    try {
      answer = { result: await run(JSON.parse(line)) }
    } catch (error) {
      answer = { error: describe(error) }
    }
    process.stdout.write(JSON.stringify(answer) + '\n')
  }
  process.exit(0) // clients that were not closed go with the process, as in a crash
}

main()
