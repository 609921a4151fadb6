"""Zip archives without compression, read at a cost that the size of the file bounds.

The standard library reads the archive's list of members. Before that the list is measured, so a list of a million members costs
nothing. After that each member must lie at its own place in the file, so no member can be longer than the file says.

References: "APPNOTE.TXT - .ZIP File Format Specification", sections 4.3.7, 4.3.14 to 4.3.16.
"""

import os
import struct
import zipfile
import zlib

from mdps_ref.errors import InputError

MOST_MEMBERS = 2**15
LONGEST_LIST = 2**22  # bytes
FLAGS = (0, 8, 0x800, 0x808)  # 8: the sizes stand behind a member, too; 0x800: its name is UTF-8. Others: encrypted, patched
_LOCAL = struct.Struct("<4s5H3L2H")  # before each member
_END = struct.Struct("<4s4H2LH")  # behind the list
_LOCATOR = struct.Struct("<4sLQL")  # before _END in a zip64 file
_END_64 = struct.Struct("<4sQ2H2L4Q")  # before _LOCATOR


class StoredZip:
    """A zip archive, open for reading.

    Parameters
    ----------
    handle : binary file
    comment : int
        How many bytes follow the archive's last record.

    Attributes
    ----------
    sizes : dict of str to int
        Bytes of each member.

    Raises
    ------
    InputError
        If a member is compressed. The message does not name the file.
    ValueError or zipfile.BadZipFile
        If the archive is damaged or hostile.
    """

    def __init__(self, handle, comment=0):
        self.handle = handle
        begin, count = _find_list(handle, comment)
        with zipfile.ZipFile(handle) as archive:
            members = archive.infolist()
        names = [member.filename for member in members]
        if len(members) != count:
            raise ValueError("its zip file lists another number of members than it says")
        if len(set(names)) < len(names):
            raise ValueError("its zip file lists a member twice")
        self._members = {member.filename: (at, member) for at, member in self._places(members, begin)}
        self.sizes = {member.filename: member.file_size for member in members}

    def read(self, name):
        """Return the bytes of a member, which must agree with its checksum."""
        at, member = self._members[name]
        self.handle.seek(at)
        content = self.handle.read(member.file_size)
        if len(content) != member.file_size or zlib.crc32(content) != member.CRC:
            raise ValueError("a member of its zip file does not agree with its checksum")
        return content

    def _places(self, members, end):
        """Check the members, and yield where the bytes of each begin. All lie one behind the other before `end`, where the list begins."""
        behind = 0
        for member in sorted(members, key=lambda member: member.header_offset):
            _check_member(member)
            if member.header_offset < behind:
                raise ValueError("its zip file has members that overlap")
            at = self._begin(member)
            behind = at + member.file_size
            if behind > end:
                raise ValueError("its zip file lists more bytes than it has")
            yield at, member

    def _begin(self, member):
        """Where a member's bytes begin. The member's own name is compared with the list's: a damaged list could hide a member."""
        self.handle.seek(member.header_offset)
        sign, _, flags, method, *_, name_length, extra_length = _LOCAL.unpack(self.handle.read(_LOCAL.size))
        name = self.handle.read(name_length).decode("utf-8" if flags & 0x800 else "cp437")
        if (sign, flags, method, name) != (b"PK\3\4", member.flag_bits, member.compress_type, member.orig_filename):
            raise ValueError("a member of its zip file is another one than its list says")
        return member.header_offset + _LOCAL.size + name_length + extra_length


def _check_member(member):
    """Check what the list says about a member."""
    if member.compress_type != zipfile.ZIP_STORED:
        raise InputError("is a compressed zip file; save its arrays again without compression (np.savez, or torch.save of a state dict)")
    if member.flag_bits not in FLAGS:
        raise ValueError("its zip file is encrypted or patched")
    if member.compress_size != member.file_size:
        raise ValueError("its zip file lists two sizes for one member")
    if member.filename != member.orig_filename:  # the standard library cuts names at a zero byte
        raise ValueError("its zip file has a member of a strange name")


def _find_list(handle, comment):
    """Where the list of members begins, and how many it lists, as the records behind it say."""
    end = handle.seek(0, os.SEEK_END) - comment - _END.size
    if end < 0:
        raise ValueError("it is too short for a zip file")
    sign, _, _, _, count, length, begin, told = _record(handle, _END, end)
    if sign != b"PK\5\6" or told != comment:
        raise ValueError("its zip file has no end")
    if end >= _LOCATOR.size + _END_64.size:
        sign, _, at, _ = _record(handle, _LOCATOR, end - _LOCATOR.size)
        if sign == b"PK\6\7":
            end -= _LOCATOR.size + _END_64.size
            *_, count, length, begin = _record(handle, _END_64, end)
            if at != end:
                raise ValueError("its zip file has no end")
    if count > MOST_MEMBERS or length > LONGEST_LIST:
        raise ValueError(f"its zip file lists {count} members in {length} bytes; at most {MOST_MEMBERS} in {LONGEST_LIST} are read")
    if begin + length != end:
        raise ValueError("its zip file has a list of members that does not end where it should")
    return begin, count


def _record(handle, layout, at):
    """The fields of a record of the file."""
    handle.seek(at)
    return layout.unpack(handle.read(layout.size))
