"""Event files against metrics.jsonl: event_files.py RUN_FOLDER [STARTS].

Reads <run>/tensorboard as TensorBoard does, with nothing of ours: records by their checksums, messages by the public
field numbers, and a file's SESSION_START, which voids what earlier files say of its step and later. What is left
must be what metrics.jsonl says, and each stage must have a file a start that trained it (STARTS: at least so many).
"""

import glob
import json
import os
import struct
import sys


def checksum(data):
    """CRC32C, by Castagnoli's polynomial bit by bit, masked as in TFRecord."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


assert checksum(b"123456789") == ((0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8) & 0xFFFFFFFF


def records(path):
    with open(path, "rb") as file:
        data = file.read()
    at = 0
    while at + 12 <= len(data):
        length, length_sum = struct.unpack_from("<QI", data, at)
        assert checksum(data[at : at + 8]) == length_sum, f"{path}: the length at {at} is damaged"
        if at + 16 + length > len(data):
            return  # half a record, of a rank that was killed
        record = data[at + 12 : at + 12 + length]
        (record_sum,) = struct.unpack_from("<I", data, at + 12 + length)
        assert checksum(record) == record_sum, f"{path}: the record at {at} is damaged"
        yield record
        at += 16 + length


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def fields(data):
    """(number, value) of each field of a message; integers, floats and bytes."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = varint(data, at)
        elif kind == 1:
            (value,) = struct.unpack_from("<d", data, at)
            at += 8
        elif kind == 5:
            (value,) = struct.unpack_from("<f", data, at)
            at += 4
        else:
            assert kind == 2, f"a field of kind {kind}"
            length, at = varint(data, at)
            value = data[at : at + length]
            at += length
        yield key >> 3, value


def curves(folder):
    """{(tag, step): value} of a stage's folder, and its number of files."""
    found = {}
    paths = sorted(glob.glob(os.path.join(folder, "*tfevents*")))
    for path in paths:
        for number, record in enumerate(records(path)):
            event = dict(fields(record))
            step = event.get(2, 0)
            assert abs(event[1] - os.path.getmtime(path)) < 86400, f"{path}: written at {event[1]}"
            if number == 0:
                assert event[3] == b"brain.Event:2", f"{path} does not begin with its version"
            elif 7 in event:
                assert dict(fields(event[7])) == {1: 1}, f"{path}: not a SESSION_START"
                found = {key: value for key, value in found.items() if key[1] < step}
            else:
                for _, value in fields(event[5]):
                    scalar = dict(fields(value))
                    found[scalar[1].decode(), step] = scalar[2]
    return found, len(paths)


TAGS = {
    "train": {
        "loss": "train/loss",
        "ce": "train/ce",
        "kd": "train/kd",
        "train_top1": "train/top1",
        "lr": "lr",
        "images_per_s": "images_per_s",
    },
    "epoch": {
        "loss": "epoch/loss",
        "train_top1": "epoch/top1",
        "images_per_s": "epoch/images_per_s",
        "val_loss": "val/loss",
        "top1": "val/top1",
        "top5": "val/top5",
        "ema_loss": "val/ema_loss",
        "ema_top1": "val/ema_top1",
        "ema_top5": "val/ema_top5",
    },
}

run, starts = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1
expected = {}
with open(os.path.join(run, "metrics.jsonl"), encoding="utf-8") as file:
    for text in file:
        line = json.loads(text)
        for member, tag in TAGS.get(line["event"], {}).items():
            single = struct.unpack("<f", struct.pack("<f", line[member]))[0]
            expected.setdefault(line["stage"], {})[tag, line["step"]] = single
assert expected, f"{run}/metrics.jsonl has no numbers"
assert sorted(os.listdir(os.path.join(run, "tensorboard"))) == sorted(expected)
for stage, numbers in expected.items():
    shown, files = curves(os.path.join(run, "tensorboard", stage))
    assert files >= starts, f"{stage}: {files} files"
    for key in sorted(numbers.keys() | shown.keys()):
        ours, theirs = numbers.get(key), shown.get(key)
        # A line has nine digits.
        close = ours is not None and theirs is not None and abs(ours - theirs) <= 2e-7 * abs(ours)
        assert close, f"{stage} {key}: {theirs} for TensorBoard, {ours} in metrics.jsonl"
    print(f"{stage}: {len(numbers)} numbers in {files} files")
