use super::*;
use alloc::vec::Vec;

fn request() -> Request {
    Request {
        op: OpId::new(5, 2),
        kernel: KernelId::WRITE,
        stream: 3,
        sequence: 9,
        flags: RequestFlags::FENCE,
        rkey: Rkey::new(1, 2, 0x1122_3344_5566_7788),
        budget_us: 1000,
        reply_capacity: 64,
        payload_length: 11,
        payload_offset: 0,
    }
}

#[test]
fn request_bytes_are_golden() {
    let mut bytes = [0xffu8; 80];
    let room = write_request(&mut bytes, &request(), b"abc", 11, |into| {
        into.copy_from_slice(b"hello world")
    });
    assert_eq!(room, Some(72));
    let expected: [u8; 72] = [
        1, 1, 67, 0, 5, 0, 2, 0, 3, 0, 3, 0, 9, 0, 0, 0, 1, 0, 2, 0, 0x88, 0x77, 0x66, 0x55, 0x44,
        0x33, 0x22, 0x11, 0xe8, 3, 0, 0, 64, 0, 0, 0, 11, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, b'a',
        b'b', b'c', 0, 0, 0, 0, 0, b'h', b'e', b'l', b'l', b'o', b' ', b'w', b'o', b'r', b'l',
        b'd', 0, 0, 0, 0, 0,
    ];
    assert_eq!(bytes[..72], expected);
    assert_eq!(bytes[72..], [0xff; 8]);
}

#[test]
fn reply_bytes_are_golden() {
    let reply = Reply {
        op: OpId::new(1, 0),
        status: Status::OutOfBounds,
        fate: Fate::Executed,
        offset: 2,
        total: 7,
        service_ns: 300,
    };
    let mut bytes = [0xffu8; 40];
    let room = ReplyWriter::new(&mut bytes, &reply).unwrap().append(b"hello").unwrap().finish();
    assert_eq!(room, 32);
    let expected: [u8; 32] = [
        2, 0, 29, 0, 1, 0, 0, 0, 6, 0, 1, 0, 2, 0, 0, 0, 7, 0, 0, 0, 0x2c, 1, 0, 0, b'h', b'e',
        b'l', b'l', b'o', 0, 0, 0,
    ];
    assert_eq!(bytes[..32], expected);
}

#[test]
fn what_is_written_is_read_back() {
    bolero::check!().with_type::<(u32, u16, u32, [u8; 24], u32, u32, Vec<u8>, Vec<u8>)>().for_each(
        |(op, stream, sequence, key, capacity, offset, arguments, chunk)| {
            let arguments = &arguments[..arguments.len().min(MAX_ARGUMENT_BYTES)];
            let chunk = &chunk[..chunk.len().min(700)];
            let request = Request {
                op: OpId::from_raw(*op),
                kernel: KernelId(*stream),
                stream: *stream,
                sequence: *sequence,
                flags: RequestFlags::from_bits_truncate(key[0]),
                rkey: Rkey::read_from_bytes(&key[..12]).unwrap(),
                budget_us: *capacity,
                reply_capacity: *capacity,
                payload_length: u32::MAX,
                payload_offset: offset / 2,
            };
            let mut bytes = [0u8; 2048];
            let fill = |into: &mut [u8]| into.copy_from_slice(chunk);
            let room = write_request(&mut bytes, &request, arguments, chunk.len(), fill).unwrap();
            let reply = Reply {
                op: OpId::from_raw(*op),
                status: Status::ALL[*op as usize % Status::ALL.len()],
                fate: Fate::ALL[*op as usize % 3],
                offset: offset / 2,
                total: u32::MAX,
                service_ns: *capacity,
            };
            let writer = ReplyWriter::new(&mut bytes[room..], &reply).unwrap();
            let second = writer.append(chunk).unwrap().finish();
            assert_eq!(second, reply_bytes(chunk.len()));
            let mut frames = Frames::new(&bytes);
            assert_eq!(frames.next(), Some(Ok(Frame::Request(request, arguments, chunk))));
            assert_eq!(frames.next(), Some(Ok(Frame::Reply(reply, chunk))));
            assert_eq!(frames.next(), None);
        },
    );
}

#[test]
fn arbitrary_bytes_never_panic_and_always_end() {
    bolero::check!().for_each(|bytes: &[u8]| {
        assert!(Frames::new(bytes).count() <= bytes.len() / 8 + 1);
    });
}

#[test]
fn malformed_frames_say_what_is_wrong() {
    let mut bytes = [0u8; 128];
    let room = write_request(&mut bytes, &request(), b"abc", 0, |_| ()).unwrap();
    fn first(bytes: &[u8]) -> Result<Frame<'_>, MalformedFrame> {
        Frames::new(bytes).next().unwrap()
    }
    assert!(first(&bytes[..room]).is_ok());
    let mut bad = bytes;
    bad[0] = 9;
    assert_eq!(first(&bad), Err(MalformedFrame::Kind { found: 9 }));
    bad = bytes;
    bad[2] = 200;
    let length = MalformedFrame::Length { found: 200, least: 48, most: 128 };
    assert_eq!(first(&bad), Err(length));
    bad = bytes;
    bad[44] = 77;
    assert_eq!(first(&bad), Err(MalformedFrame::Parts));
    bad = bytes;
    bad[0] = 2;
    bad[8] = 99;
    assert!(matches!(first(&bad), Err(MalformedFrame::Code { status: 99, .. })));
}
