use super::*;

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
    let fill = |data: &mut [u8]| data.copy_from_slice(b"hello");
    assert_eq!(write_reply(&mut bytes[..31], &reply, 5, fill), None);
    assert_eq!(write_reply(&mut bytes, &reply, 5, fill), Some(32));
    let expected: [u8; 32] = [
        2, 0, 29, 0, 1, 0, 0, 0, 6, 0, 1, 0, 2, 0, 0, 0, 7, 0, 0, 0, 0x2c, 1, 0, 0, b'h', b'e',
        b'l', b'l', b'o', 0, 0, 0,
    ];
    assert_eq!(bytes[..32], expected);
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
