"""What people bring: one made file per trap, through the one normaliser that page, API and command line share."""

import io

import numpy as np
import pytest
from PIL import Image

from models.trace import limits
from models.trace.subject import Example, SubjectError, from_anything, from_image, from_text

CORNERS = np.zeros((24, 36, 3), np.uint8)  # red, green / blue, yellow: every turn and mirror differs
CORNERS[:12, :18], CORNERS[:12, 18:], CORNERS[12:, :18], CORNERS[12:, 18:] = (
    (220, 30, 30), (30, 200, 40), (30, 40, 220), (230, 220, 30))
TURNS = {2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1], 5: lambda a: a.swapaxes(0, 1),
         6: lambda a: np.rot90(a), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: lambda a: np.rot90(a, -1)}


def saved(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


# ---- pictures --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("turn", TURNS)
def test_a_photo_that_lies_on_its_side_stands_upright(kind, turn):
    """As a camera keeps it: the pixels turned away, and in which way said in the EXIF data."""
    exif = Image.Exif()
    exif[0x0112] = turn
    lying = Image.fromarray(np.ascontiguousarray(TURNS[turn](CORNERS)))
    found = from_image(saved(lying, kind, exif=exif, **({} if kind == "PNG" else {"quality": 95})))
    assert found.image.shape == CORNERS.shape and "upright" in found.note
    assert np.abs(found.image.astype(int) - CORNERS)[4:-4:4, 4:-4:4].mean() < 12


def test_damaged_camera_data_do_not_refuse_a_photo():
    assert from_image(saved(Image.fromarray(CORNERS), "PNG", exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\xff")).image.shape
    exif = Image.Exif()
    exif[0x0112] = 77
    assert from_image(saved(Image.fromarray(CORNERS), "JPEG", exif=exif)).note == ""


def test_sixteen_bits_are_scaled():
    ramp = np.linspace(0, 65535, 64 * 32).reshape(32, 64).astype(np.uint16)
    found = from_image(saved(Image.fromarray(ramp)))
    assert np.abs(found.image[..., 0] - ramp / 257).max() <= 0.5 and "16 bits" in found.note
    assert (from_image(np.repeat(ramp[..., None], 3, -1)).image == found.image).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "RGB"])
def test_what_is_transparent_is_laid_on_white(mode):
    """Mutant: alpha thrown away, so that the colour hidden under it shows."""
    hidden = CORNERS.copy()
    alpha = np.full((24, 36), 255, np.uint8)
    alpha[:12, :18] = 0
    clear = Image.fromarray(np.dstack([hidden, alpha]))
    if mode == "P":
        flat = Image.fromarray(hidden).quantize(8)
        data = saved(flat, transparency=int(np.asarray(flat)[0, 0]))
    elif mode in ("L", "RGB"):
        flat = Image.fromarray(hidden).convert(mode)
        data = saved(flat, transparency=flat.getpixel((0, 0)))
    else:
        data = saved(clear.convert(mode))
    found = from_image(data)
    assert (found.image[2:10, 2:16] == 255).all() and not (found.image[14:, 20:] == 255).all()
    assert "laid on white" in found.note


def test_half_transparent_is_half_white():
    clear = np.full((16, 16, 4), (0, 0, 0, 128), np.uint8)
    assert (from_image(saved(Image.fromarray(clear))).image == 127).all()
    assert (from_image(clear).image == 127).all()
    clear[..., 3] = 255
    assert from_image(clear).note == "" and (from_image(clear).image == 0).all()


def test_print_colours_palettes_greys_and_bits_become_rgb():
    picture = Image.fromarray(CORNERS)
    for data, far in ((saved(picture.convert("CMYK"), "JPEG", quality=95), 40), (saved(picture.quantize(8)), 30),
                      (saved(picture.convert("YCbCr"), "JPEG", quality=95), 30)):
        assert np.abs(from_image(data).image.astype(int) - CORNERS).mean() < far
    grey = from_image(saved(picture.convert("L"))).image
    assert (grey[..., 0] == grey[..., 2]).all() and grey.shape == CORNERS.shape
    assert set(np.unique(from_image(saved(picture.convert("1"))).image)) <= {0, 255}


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_used_and_it_says_so(kind):
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue", "green")]
    options = {"lossless": True} if kind == "WEBP" else {}
    found = from_image(saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, **options))
    assert "first of its 3 frames" in found.note and (found.image == (255, 0, 0)).all()


@pytest.mark.parametrize("size", [(8, 8), (8, 1200), (3000, 9), (2000, 2000)])
def test_small_narrow_and_large_pictures_within_the_limits_open(size):
    assert from_image(saved(Image.new("RGB", size, "teal"))).image.shape == (size[1], size[0], 3)


@pytest.mark.parametrize("size", [(1, 1), (7, 90), (2001, 2000), (30000, 200)])
def test_others_are_refused_with_their_size(size):
    with pytest.raises(SubjectError, match=f"{size[0]} x {size[1]}"):
        from_image(saved(Image.new("1", size)))


@pytest.mark.parametrize("damage", [lambda d: d[: len(d) // 2], lambda d: d[:40], lambda d: b"\x00" + d])
def test_a_damaged_picture_is_one_sentence(damage):
    data = saved(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)))
    with pytest.raises(SubjectError, match="cannot be read as a picture"):
        from_image(damage(data))


def test_the_answer_says_what_was_done_to_the_picture(tiny):
    from models.engine.method import run
    clear = np.zeros((40, 40, 4), np.uint8)
    (trace,) = run("attention", from_image(clear), checkpoint="photo-vit-1").traces.values()
    assert "laid on white" in trace.provenance.note


# ---- texts -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\x0b", "\x0c", "\x85", "\u2028", "\u2029"])
def test_lines_end_alike(end):
    """Mutants: a lone CR dropped, so that words are joined; CRLF read as two ends."""
    assert from_text(f"one{end}two{end}{end}three").text == "one\ntwo\n\nthree"


@pytest.mark.parametrize("unseen, words", [
    ("\ufeff", "without a width"), ("\u200b", "without a width"), ("\u2060", "without a width"), ("\x00", "control"),
    ("\x07", "control"), ("\x7f", "control"), ("\x9b", "control"), ("\ud83d", "halves"), ("\udc00", "halves")])
def test_what_nobody_sees_is_left_out_and_said(unseen, words):
    found = from_text(f"{unseen}the{unseen} sea")
    assert found.text == "the sea" and words.split()[0] in found.note
    with pytest.raises(SubjectError, match="nobody sees"):
        from_text(unseen)


@pytest.mark.parametrize("text", ["\u200d", "\u00ad\u200f", "\ufe0f", "\u202e \u202c", "\U000e0041\U000e007f"])
def test_a_text_of_nothing_that_can_be_seen_is_refused(text):
    """Mutant: joiners and marks alone, which belong to scripts and stay in a text, taken for one."""
    with pytest.raises(SubjectError, match="nobody sees"):
        from_text(text)
    assert from_text(text + "e\u0301").text and from_text("\ud83dx").note.endswith("1 half of a character.")


def test_what_scripts_and_emoji_need_stays():
    for text in ("👩\u200d👩\u200d👧", "می\u200cخواهم", "e\u0301", "\U0001f3fd", "\u200fשלום", "a\tb",
                 "a\u00a0b", "\u3000x", "\u00adx"):
        assert from_text(text).text == text and from_text(text).note == ""


def test_a_whole_emoji_is_no_lone_surrogate():
    assert from_text("😀").text == "😀"
    with pytest.raises(SubjectError):
        from_text("\ud83d\ude00")  # two halves that a broken program left apart


@pytest.mark.parametrize("encoding, words", [
    ("utf-8", ""), ("utf-8-sig", "without a width"), ("utf-16", "UTF-16"), ("utf-32", "UTF-32")])
def test_a_file_says_in_which_encoding_it_was_read(tmp_path, encoding, words):
    (tmp_path / "a.txt").write_bytes("Grüße, 東京 😀\r\n".encode(encoding))
    found = from_anything(str(tmp_path / "a.txt"), "text")
    assert found.text == "Grüße, 東京 😀\n" and words in found.note


@pytest.mark.parametrize("data", ["Grüße".encode("latin-1"), b"\xff\xfe\x00", bytes(range(256)),
                                  b"\x89PNG\r\n\x1a\n\xff", "東京".encode("shift-jis")])
def test_a_file_in_another_encoding_is_refused_in_a_sentence(tmp_path, data):
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(SubjectError, match="save it as UTF-8"):
        from_anything(str(tmp_path / "a.txt"), "text")


def test_too_long_is_said_after_what_nobody_sees_was_left_out():
    assert from_text("a\u200b" * limits.CHARACTERS).text == "a" * limits.CHARACTERS
    with pytest.raises(SubjectError, match="8,001"):
        from_text("a" * (limits.CHARACTERS + 1))


# ---- what is no file -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("given", ["storyy.txt", "texts/storyy.txt", "my story.txt", "STORY.TXT", "notes.md", "a.docx",
                                   "photo.jpeg", "/nonexistent/story", "./story", "~/story", "C:\\texts\\story.txt",
                                   "story.abc"])
def test_a_file_that_is_missing_is_not_read_as_text(given):
    with pytest.raises(SubjectError, match="There is no file") as caught:
        from_anything(given, "text", (Example("tea", "Tea", "tea."),))
    assert "tea" in str(caught.value) and "put it into a file" in str(caught.value)


@pytest.mark.parametrize("id, text, left", [
    ("all-for-one", "17 + 4 - 9 = 12", '"12" behind "="'), ("icn", "Some fruits: a pear,", '"a pear," behind ":"'),
    ("maze-mlmu", "a1-a2 a2-a3 a3-a4 a4-b4 b4-b3 b3-b2 b2-b1 b1-c1 c1-c2 c2-c3 c3-c4 c4-d4 d4-d3 d3-d2 d2-d1 from a1 "
                  "to c1 path a1 a2", '"a1 a2" behind "path"')])
def test_an_answer_that_is_typed_is_not_left_out_in_silence(tiny, id, text, left):
    """Mutant: the words behind the question dropped, and another text than the typed one shown."""
    from models.engine.method import run
    with pytest.raises(SubjectError, match=left):
        run(id, from_text(text))


@pytest.mark.parametrize("given", ["The story ends.", "e.g. this", "3.14", "and/or", "Really?!", "sea", "U.S.", "a.b",
                                   "What is in story.txt today?", "one.\ntwo.txt", "https", "...and then", "9/11"])
def test_words_are_still_words(given):
    assert from_anything(given, "text").text == given


def test_nothing_and_folders_and_the_wrong_kind_are_refused(tmp_path):
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "big.txt").write_bytes(bytes(limits.FILE_BYTES + 1))
    (tmp_path / "words.txt").write_text("the sea")
    (tmp_path / "a.png").write_bytes(saved(Image.fromarray(CORNERS)))
    for given, kind, words in (("", "text", "type some text"), ("", "photo", "no file"), ("  ", "text", "type some"),
                               (str(tmp_path), "text", "is a folder"), (str(tmp_path), "photo", "is a folder"),
                               (str(tmp_path / "empty.txt"), "text", "is empty"),
                               (str(tmp_path / "big.txt"), "text", "12.0 MB"),
                               (str(tmp_path / "words.txt"), "photo", "cannot be read as a picture"),
                               (str(tmp_path / "a.png"), "text", "UTF-8"), ("missing.png", "photo", "missing.png")):
        with pytest.raises(SubjectError, match=words) as caught:
            from_anything(given, kind)
        assert "\n" not in str(caught.value) and str(tmp_path.parent) not in str(caught.value)


def test_the_command_line_refuses_in_one_line(capsys):
    from models.__main__ import main
    for given, words in (("storyy.txt", "no file"), ("", "type some text")):
        assert main(["run", "attention", "--subject", given]) == 2
        said = capsys.readouterr().err
        assert words in said and said.count("\n") == 1


