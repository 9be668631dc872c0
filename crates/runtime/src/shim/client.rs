//! A connection to the shim: what it asked for and what it is still to be sent.

use crate::Error;
use crate::protocol::{CHUNK, Inbox};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// How much may wait for a foreground client before the program has to.
const FOREGROUND_QUEUE: usize = 256 * 1024;

pub(super) struct Client {
    pub id: u64,
    pub socket: OwnedFd,
    pub inbox: Inbox,
    /// The session it is attached to.
    pub session: Option<u64>,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub foreground: bool,
    /// Bytes of its input that wait for the program.
    pub stdin_pending: usize,
    /// Nothing more is read from it; it is closed once everything was sent.
    pub closing: bool,
    /// The connection is gone.
    pub gone: bool,
    queue: VecDeque<Rc<[u8]>>,
    queued: usize,
    sent_of_first: usize,
}

impl Client {
    pub fn new(id: u64, socket: OwnedFd) -> Result<Self, Error> {
        rustix::io::ioctl_fionbio(&socket, true).map_err(Error::io("use", "the client's socket"))?;
        Ok(Self {
            id,
            socket,
            inbox: Inbox::default(),
            session: None,
            stdin: false,
            stdout: false,
            stderr: false,
            foreground: false,
            stdin_pending: 0,
            closing: false,
            gone: false,
            queue: VecDeque::new(),
            queued: 0,
            sent_of_first: 0,
        })
    }

    /// Bytes that it hasn't taken yet.
    pub fn lag(&self) -> usize {
        self.queued - self.sent_of_first
    }

    /// The program has to wait for it.
    pub fn holds_back(&self, session: u64) -> bool {
        self.session == Some(session) && self.foreground && !self.gone && self.lag() > FOREGROUND_QUEUE
    }

    pub fn has_queue(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Drops what waits, except for the rest of a frame that was begun.
    pub fn drop_queue(&mut self) {
        let keep = usize::from(self.sent_of_first > 0);
        self.queue.truncate(keep);
        self.queued = self.queue.iter().map(|frame| frame.len()).sum();
    }

    pub fn push(&mut self, frame: &Rc<[u8]>) {
        if !self.gone {
            self.queued += frame.len();
            self.queue.push_back(Rc::clone(frame));
        }
    }

    /// Sends what the socket takes.
    pub fn flush(&mut self) {
        while let Some(first) = self.queue.front() {
            match send(&self.socket, &first[self.sent_of_first..], SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => self.sent_of_first += sent,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    self.gone = true;
                    return;
                }
            }
            if self.sent_of_first == first.len() {
                self.queued -= first.len();
                self.sent_of_first = 0;
                self.queue.pop_front();
            }
        }
    }

    /// Reads what has come, one chunk, into the inbox.
    pub fn receive(&mut self) {
        let mut chunk = [0u8; CHUNK];
        match recv(&self.socket, &mut chunk, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => self.gone = true,
            Ok((_, length)) => self.inbox.extend(&chunk[..length]),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => self.gone = true,
        }
    }
}
