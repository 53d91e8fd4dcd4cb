use super::*;

/// What a session has left behind holds up no fence of another as long as there are other streams.
#[test]
fn a_stream_with_ops_out_changes_hands_last() {
    let mut link = Link::vacant(4, 4);
    let stream = |link: &mut Link, session| link.stream_for(session, 0).unwrap();
    let left = stream(&mut link, 0);
    let number = link.next_sequence(left);
    link.release_streams(0);
    assert_ne!(stream(&mut link, 1), left, "a new one");
    link.release_streams(1);
    assert_ne!(stream(&mut link, 2), left, "the vacant one that has nothing out");
    for session in 3..=Streams::MAX as u16 {
        assert_ne!(stream(&mut link, session), left);
    }
    assert_ne!(stream(&mut link, 100), left, "one that its owner does not use");
    for other in (0..Streams::MAX as u16).filter(|other| *other != left) {
        link.next_sequence(other);
    }
    assert_eq!(link.stream_for(101, 0), Some(left), "it is better than none");
    assert_eq!(link.stream_for(102, 0), None);
    link.release_streams(101);
    link.end_in_stream(left, number);
    assert_eq!(link.stream_for(102, 0), Some(left), "nothing is out any more");
}
