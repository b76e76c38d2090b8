use super::*;
use std::io::{Read as _, Write as _, pipe};

#[test]
fn a_full_pipe_holds_up_its_writer_and_nobody_else() {
    let linux = Linux::new();
    let (reader, writer) = pipe().unwrap();
    let mut output = Output::new(&linux, writer).unwrap();
    let mut input = Input::new(&linux, reader).unwrap();
    let data: Vec<u8> = (0..1_000_000u32).map(|i| (i >> 3) as u8).collect();
    let expected = data.clone();
    let got = linux.run(|spawner| async move {
        // Were the writer to block in the kernel, nobody would ever make room.
        let writing = spawner.spawn(async move { output.write_all(&data).await.map_err(|e| e.0) });
        let mut got = Vec::new();
        let mut chunk = [0; 5000];
        while got.len() < 1_000_000 {
            let bytes = input.read(&mut chunk).await.unwrap();
            got.extend_from_slice(&chunk[..bytes]);
        }
        writing.join().await.unwrap();
        got
    });
    assert!(got == expected);
}

#[test]
fn a_regular_file_is_read_to_its_end_and_written() {
    let linux = Linux::new();
    let path = std::env::temp_dir().join(format!("xen-linux-stdio-{}", std::process::id()));
    let mut output = Output::new(&linux, File::create(&path).unwrap()).unwrap();
    let mut input = Input::new(&linux, File::open(&path).unwrap()).unwrap();
    std::fs::remove_file(&path).unwrap();
    linux.run(|_| async move {
        let data = vec![7; 200_000];
        output.write_all(&data).await.unwrap();
        let mut got = Vec::new();
        let mut chunk = vec![0; 70_000];
        loop {
            match input.read(&mut chunk).await.unwrap() {
                0 => break,
                bytes => got.extend_from_slice(&chunk[..bytes]),
            }
        }
        assert!(got == data);
    });
}

#[test]
fn input_waits_for_a_pipe_without_changing_its_mode() {
    let linux = Linux::new();
    let (reader, mut writer) = pipe().unwrap();
    let mut probe = reader.try_clone().unwrap();
    let mut input = Input::new(&linux, reader).unwrap();
    linux.run(|spawner| async move {
        let reading = spawner.spawn(async move {
            let mut to = [0; 16];
            let bytes = input.read(&mut to).await.unwrap();
            (to[..bytes].to_vec(), input.read(&mut to).await.unwrap())
        });
        xen_exec::yield_now().await;
        writer.write_all(b"line\n").unwrap();
        xen_exec::yield_now().await;
        drop(writer);
        assert_eq!(reading.join().await, (b"line\n".to_vec(), 0));
    });
    // In non-blocking mode, with no writer left, this would still be the end: so ask the descriptor
    // itself.
    assert_eq!(probe.read(&mut [0; 1]).unwrap(), 0);
    let flags = rustix::fs::fcntl_getfl(sys::owned(probe)).unwrap();
    assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK));
}

#[test]
fn a_reader_that_left_is_a_broken_pipe() {
    let linux = Linux::new();
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let mut output = Output::new(&linux, writer).unwrap();
    let error = linux.run(|_| async move { output.write(b"x").await.unwrap_err() });
    assert_eq!(embedded_io_async::Error::kind(&error), ErrorKind::BrokenPipe);
}

#[test]
fn each_kind_is_recognized() {
    let (reader, writer) = pipe().unwrap();
    let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let linux = Linux::new();
    assert_eq!(Input::new(&linux, reader).unwrap().kind, Kind::OwnPipe);
    assert_eq!(Output::new(&linux, writer).unwrap().kind, Kind::OwnPipe);
    assert_eq!(Output::new(&linux, socket).unwrap().kind, Kind::Socket);
    assert_eq!(Output::new(&linux, File::create("/dev/null").unwrap()).unwrap().kind, Kind::File);
    assert_eq!(Input::new(&linux, File::open("/proc/self/exe").unwrap()).unwrap().kind, Kind::File);
}

#[test]
fn a_socket_that_blocks_holds_up_nobody() {
    let linux = Linux::new();
    let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut input = Input::new(&linux, ours).unwrap();
    linux.run(|spawner| async move {
        let reading = spawner.spawn(async move {
            let mut to = [0; 8];
            let bytes = input.read(&mut to).await.unwrap();
            to[..bytes].to_vec()
        });
        xen_exec::yield_now().await;
        theirs.write_all(b"late").unwrap();
        assert_eq!(reading.join().await, b"late");
    });
}
