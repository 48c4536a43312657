#include "worker/event_record.h"

#include "base/error.h"
#include "comm/rank_state.h"
#include "worker/event.pb-c.h"

enum { LENGTH_BYTES = 8, CHECKSUM_BYTES = 4 };

static void put_little_endian(uint8_t *out, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        out[i] = (uint8_t)(value >> (8 * i));
}

// TFRecord's masked CRC32C, so that the checksum of data with checksums in it is of use. A few
// hundred bytes a record need no table.
static uint32_t checksum(const uint8_t *data, size_t bytes)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < bytes; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (crc & 1 ? UINT32_C(0x82f63b78) : 0);
    }
    crc = ~crc;
    return ((crc >> 15) | (crc << 17)) + UINT32_C(0xa282ead8);
}

static void write_record(struct event_record *out, Tensorboard__Event *event, int64_t step)
{
    uint8_t *message = out->data + LENGTH_BYTES + CHECKSUM_BYTES;
    event->wall_time = wall_seconds();
    event->step = step;
    size_t bytes = tensorboard__event__get_packed_size(event);
    out->bytes = LENGTH_BYTES + CHECKSUM_BYTES + bytes + CHECKSUM_BYTES;
    CHECK(out->bytes <= sizeof out->data);
    put_little_endian(out->data, bytes, LENGTH_BYTES);
    put_little_endian(out->data + LENGTH_BYTES, checksum(out->data, LENGTH_BYTES), CHECKSUM_BYTES);
    (void)tensorboard__event__pack(event, message);
    put_little_endian(message + bytes, checksum(message, bytes), CHECKSUM_BYTES);
}

void event_record_version(struct event_record *out)
{
    char version[] = "brain.Event:2";
    Tensorboard__Event event = TENSORBOARD__EVENT__INIT;
    event.what_case = TENSORBOARD__EVENT__WHAT_FILE_VERSION;
    event.file_version = version;
    write_record(out, &event, 0);
}

void event_record_start(struct event_record *out, int64_t step)
{
    Tensorboard__SessionLog start = TENSORBOARD__SESSION_LOG__INIT;
    Tensorboard__Event event = TENSORBOARD__EVENT__INIT;
    start.status = TENSORBOARD__SESSION_LOG__STATUS__START;
    event.what_case = TENSORBOARD__EVENT__WHAT_SESSION_LOG;
    event.session_log = &start;
    write_record(out, &event, step);
}

void event_record_scalars(struct event_record *out, int64_t step, const struct scalar *scalars,
                          size_t count)
{
    Tensorboard__Value values[EVENT_SCALARS], *pointers[EVENT_SCALARS];
    Tensorboard__Summary summary = TENSORBOARD__SUMMARY__INIT;
    Tensorboard__Event event = TENSORBOARD__EVENT__INIT;
    CHECK(count <= EVENT_SCALARS);
    for (size_t i = 0; i < count; i++) {
        tensorboard__value__init(&values[i]);
        values[i].tag = (char *)(uintptr_t)scalars[i].tag; // it is only read
        values[i].value_case = TENSORBOARD__VALUE__VALUE_SIMPLE_VALUE;
        values[i].simple_value = scalars[i].value;
        pointers[i] = &values[i];
    }
    summary.n_value = count;
    summary.value = pointers;
    event.what_case = TENSORBOARD__EVENT__WHAT_SUMMARY;
    event.summary = &summary;
    write_record(out, &event, step);
}
