"""Which option a text settles on: reading the answer to a multiple-choice question.

The text is cut into tokens once, and a few rules walk over them with bounded steps, so the time is
linear in the length of the text whatever it holds. There is no regular expression with adjacent
repetitions here, because one hostile answer could make such a pattern run for minutes.

Rules, the most explicit first:

1. a box: `\\boxed{C}`, `\\boxed{\\mathrm{C}}`;
2. a statement about the answer: "the correct option is C", "Answer - C", "I choose C";
3. a judgement or a conclusion: "C is correct", "Therefore, C.", "... which is option C.";
4. a line that holds the letter alone;
5. a text whose first or last line begins with the letter: "C) because ...".

Within one rule the last statement counts, because a model may change its mind. A statement that
names two options ("A or B") is no answer, and takes back what was said before it.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

#: Characters of a text that are looked at: its beginning, for an answer given first, and its end.
HEAD, TAIL = 1_000, 20_000


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Each alternative starts with another class of characters and holds no repetition of a repetition.
_TOKEN = re.compile(r"\n|[^\W\d_]+|\d+|[^\s]")
_BOX = re.compile(r"\\(?:boxed|fbox)\b")
_COMMAND = re.compile(r"\\[a-zA-Z]{1,20}")
_SPACE = " "

# Words of other languages become ours; Chinese and Japanese have no blanks between words.
_WORDS = {
    "答案": "answer", "答え": "answer", "正解": "answer", "답": "answer",
    "です": ".", "입니다": ".",
    "정답": "answer", "选项": "option",
    "letra": "letter", "lettre": "letter", "lettera": "letter", "вариант": "option",
    "選項": "option", "opción": "option", "opção": "option", "opzione": "option",
    "选择": "choose", "選擇": "choose", "应选": "choose", "故选": "choose",
    "選": "choose", "选": "choose", "是": "is", "为": "is", "為": "is", "は": "is", "은": "is",
    "는": "is", "正确": "correct", "正確": "correct", "所以": "so", "因此": "so", "或": "or",
    "和": "and", "不": "not", "。": ".\n", "、": ",",
}  # fmt: skip
_TRANSLATED = re.compile("|".join(sorted(map(re.escape, _WORDS), key=len, reverse=True)))
_HTML = re.compile(r"</?(?:b|i|u|em|strong|p|br|span|div|center)>")
_ANSWER_TAG = re.compile(r"<(/?)(?:final[_ ]?)?answer>", re.IGNORECASE)

_CUES = _set(
    "answer ans option choice solution response result selection letter pick réponse respuesta"
    " resposta risposta antwort ответ correct key"
)
_LINKS = _set("is be was equals est es ist è é")
_SIGNS = frozenset(":=-–—→⇒>")
_FILLERS = _set(
    "the a an option choice answer letter statement therefore thus hence then clearly most likely"
    " probably definitely indeed simply just as follows actually in fact correct right best final"
    " i we think believe would will should must has to have choose pick select say go with it be is"
    " la le l die der das el o et"
)
_NEGATIONS = _set("not cannot never neither nor none wrong incorrect except without t")
_CHOOSING = _set("choose chose choosing pick picked picking select selected selecting")
_PHRASES = (
    ("go", "with"), ("going", "with"), ("go", "for"), ("going", "for"), ("opt", "for"),
    ("settle", "on"), ("vote", "for"),
)  # fmt: skip
_CONCLUSIONS = _set("so thus therefore hence conclusion finally ergo then")
_POINTING = _set(
    "s say must be should would to matches leaves leaving gives means namely ie with option choice"
    " answer letter only definitely clearly probably likely surely"
)
_NOUNS = _set("option choice answer letter statement")
_PRAISE = _set("correct right true answer best accurate appropriate suitable")
_FITTING = _set("satisfies works fits matches holds remains does")
_IT = _set("it this that which one choice option answer")
_DEGREES = _set(
    "the a an my our only most best clearly definitely likely single therefore thus indeed also one"
    " final"
)
_SUPPOSING = _set("if whether suppose supposing assume assuming unless why")
# What may follow the letters A and I when they are options and no words.
_GOES_ON = _set(
    "because since as due is was based by which that given for so from where with and or follows"
    " would must since being"
)
_OPENING, _CLOSING = frozenset("([<\"'“‘«"), frozenset(")]>\"'”’»")
_ENDS = frozenset(".!?;,")
_WALK = 12  # tokens between "answer" and its verb, and between the verb and the letter


@dataclass(frozen=True)
class _Token:
    text: str
    word: str  # in lower case
    glued: bool  # no blank before it


@dataclass(frozen=True)
class _Statement:
    place: int  # token at which it was found
    letter: str | None  # None: it names several options


def read_choice(text: str, letters: str = "ABCD") -> str | None:
    """The letter of `letters` that `text` settles on, or None. Linear in the length of the text."""
    if len(text) > HEAD + TAIL:
        text = text[:HEAD] + "\n" + text[-TAIL:]
    text = unicodedata.normalize("NFKC", text)  # full-width and circled letters
    box = _last_box(text, letters)
    if box is not None:
        return box or None
    tokens = _tokens(text)
    reader = _Reader(tokens, letters)
    before = -1
    for rule in (reader.statements, reader.judgements, reader.bare_lines, reader.leading):
        found = sorted((s for s in rule() if s.place > before), key=lambda s: s.place)
        if found:
            if found[-1].letter is not None:
                return found[-1].letter
            before = found[-1].place  # taken back; only what comes later can settle it
    return None


def boxes(text: str) -> list[str]:
    """Contents of all `\\boxed{...}` and `\\fbox{...}`, in order; one that is never closed holds
    the rest of its line, and `\\boxed 7` holds the next word.
    """
    contents: list[str] = []
    end = -1
    for match in _BOX.finditer(text):
        if match.start() < end:
            continue  # a box inside a box
        start = match.end()
        while start < len(text) and text[start] == _SPACE:
            start += 1
        if start < len(text) and text[start] == "{":
            depth, place = 0, start
            for place in range(start, len(text)):
                depth += (text[place] == "{") - (text[place] == "}")
                if depth == 0:
                    break
            if depth == 0:
                contents.append(text[start + 1 : place])
                end = place
            else:
                contents.append(text[start + 1 :].partition("\n")[0])
                return contents
        else:
            word = text[start : start + 100].split(maxsplit=1)
            contents.append(word[0].rstrip(".$") if word else "")
    return contents


def _last_box(text: str, letters: str) -> str | None:
    """The letter of the last box that holds one; "" if it holds several; None without one."""
    for content in reversed(boxes(text)):
        tokens = _tokens(content[:200])
        reader = _Reader(tokens, letters)
        named = [s for i in range(len(tokens)) for s in reader.letter_at(i, boxed=True)]
        if named and named[0].letter is None:
            return ""
        if named:
            first = named[0].letter
            return first if first is not None and {s.letter for s in named} == {first} else ""
    return None


def _tokens(text: str) -> list[_Token]:
    text = _HTML.sub(_SPACE, text)
    text = _ANSWER_TAG.sub(lambda tag: "\n" if tag[1] else " answer: ", text)
    text = _TRANSLATED.sub(lambda match: f" {_WORDS[match[0]]} ", text)
    text = _COMMAND.sub(_SPACE, text)  # \text, \mathrm, \textbf: what they hold stays
    text = re.sub(r"[*_`$#{}\\~|\"“”【】「」]", _SPACE, text)
    tokens: list[_Token] = []
    end = -1
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token == "\n" and tokens and tokens[-1].text == "\n":
            continue
        tokens.append(_Token(token, token.lower(), match.start() == end))
        end = match.end()
    return tokens


class _Reader:
    """The rules, over the tokens of one text."""

    def __init__(self, tokens: Sequence[_Token], letters: str) -> None:
        self.tokens, self.letters = tokens, letters
        self._lines = [i for i, token in enumerate(tokens) if token.text == "\n"]

    def word(self, i: int) -> str:
        return self.tokens[i].word if 0 <= i < len(self.tokens) else ""

    def _ends(self, i: int) -> bool:
        """A sentence, a line or the text ends at token i."""
        return i >= len(self.tokens) or self.tokens[i].text in {"\n", ".", "!"}

    def letter_at(self, i: int, *, boxed: bool = False) -> Iterator[_Statement]:
        """The option that stands at token i, perhaps in brackets; nothing if there is none, and
        several options as a statement without a letter.
        """
        opened = 0
        start = i
        while opened < 4 and i < len(self.tokens) and self.tokens[i].text in _OPENING:
            opened, i = opened + 1, i + 1
        named = self.word(i - 1) in {"option", "choice", "letter"}
        letter = self._letter(i, bracketed=opened > 0 or boxed or named)
        if letter is None:
            return
        j = i + 1
        for _ in range(4):
            if j < len(self.tokens) and self.tokens[j].text in _CLOSING:
                j += 1
        yield _Statement(start, None if self._another(j) else letter)

    def _letter(self, i: int, *, bracketed: bool = False) -> str | None:
        if i >= len(self.tokens):
            return None
        token = self.tokens[i]
        letter = token.text.upper()
        if len(token.text) != 1 or letter not in self.letters:
            return None
        following = self.tokens[i + 1] if i + 1 < len(self.tokens) else None
        if following is not None and following.glued:
            after = self.tokens[i + 2] if i + 2 < len(self.tokens) else None
            if following.text[0].isalnum() or following.text in "+=^%°":
                return None  # C2, A+B
            joined = following.text in "-–'’" and after is not None and after.glued
            if joined and after is not None and after.text[0].isalnum():
                return None  # C-14, A's
        if self._ends(i + 1) or following is None or following.text in _ENDS | _CLOSING:
            return letter
        if token.text != letter:
            return letter if bracketed or following.text in _SIGNS else None
        # "A force", "I think": a word, not an option
        if letter in "AI" and not bracketed and following.text.islower():
            return letter if following.word in _GOES_ON else None
        return letter

    def _another(self, j: int) -> bool:
        """A second option is named from token j on: "or B", ", B", "/B", "and (B)"."""
        if self.word(j) not in {"or", "and", "/", "&", ","}:
            return False
        j += 1
        for _ in range(3):
            if self.word(j) in _NOUNS | {"or", "and", "perhaps", "maybe", "possibly"} | _OPENING:
                j += 1
        token = self.tokens[j] if j < len(self.tokens) else None
        if token is None or len(token.text) != 1 or not token.text.isupper():
            return False
        return self._letter(j, bracketed=False) is not None

    def _negated(self, i: int, back: int = 3) -> bool:
        return any(self.word(i - b) in _NEGATIONS for b in range(1, back + 1))

    def _after(self, i: int) -> Iterator[_Statement]:
        """The option that follows from token i on, past fillers."""
        for j in range(i, min(i + _WALK, len(self.tokens))):
            found = list(self.letter_at(j))
            if found:
                yield from found
                return
            token = self.tokens[j]
            if not (
                token.word in _FILLERS or token.text in _SIGNS | _OPENING | {",", "\n", ".", "'"}
            ):
                return
            if token.text == "\n" and j > i + 1 and self.tokens[j - 1].text not in _SIGNS:
                return

    def statements(self) -> Iterator[_Statement]:
        """Rule 2."""
        for i, token in enumerate(self.tokens):
            if token.word in _CUES:
                yield from self._about_the_answer(i)
            if token.word in _CHOOSING or (token.word, self.word(i + 1)) in _PHRASES:
                start = i + 1 if token.word in _CHOOSING else i + 2
                if not self._negated(i):
                    yield from self._after(start)
            if (
                token.text == "A"
                and self._starts_line(i)
                and self.word(i + 1) == ":"
                and self._alone(i + 2)
            ):
                yield from self.letter_at(i + 2)  # question and answer as "Q: ... A: C"

    def _about_the_answer(self, i: int) -> Iterator[_Statement]:
        # up to the verb: "the answer to question 3 is"
        for j in range(i + 1, min(i + 1 + _WALK, len(self.tokens))):
            token = self.tokens[j]
            if token.word in _LINKS or token.text in _SIGNS or (token.text == ")" and j == i + 1):
                if self.word(j + 1) not in _NEGATIONS:
                    yield from self._after(j + 1)
                    return
                for k in range(j + 2, min(j + 8, len(self.tokens))):
                    if self.word(k) == "but":  # "is not B but C"
                        yield from self._after(k + 1)
                return
            if token.word == "." and self.word(i) == "ans":
                yield from self._after(j + 1)
                return
            if token.text in {"\n", ".", "!", "?", ";"} or token.word in _NEGATIONS:
                # "Answer" as a heading, with the letter alone on the next line
                if token.text == "\n" and j == i + 1 and self._alone(j + 1):
                    yield from self.letter_at(j + 1)
                return
            if found := list(self.letter_at(j)):
                # no verb: "ANSWER C", at the end of the line
                if token.text not in _OPENING and not self._alone(j):
                    if found[0].letter is None:
                        yield from found
                    return
                named = self.word(i).startswith("ans") or self._starts_line(i)
                if (
                    named
                    and self._alone(j)
                    and all(self.word(k) in _NOUNS | {"correct"} for k in range(i + 1, j))
                ):
                    yield from found
                return

    def judgements(self) -> Iterator[_Statement]:
        """Rule 3."""
        for i, token in enumerate(self.tokens):
            if len(token.text) == 1 and token.text.upper() in self.letters:
                yield from self._praised(i)
                yield from self._pointed_at(i)

    def _praised(self, i: int) -> Iterator[_Statement]:
        """ "C is correct", "option (c) must be the right answer"."""
        before = i - 1
        bracketed = before >= 0 and self.tokens[before].text in _OPENING
        before -= bracketed
        named = self.word(before) in _NOUNS
        if self.tokens[i].text.islower() and not (named or bracketed):
            return
        before -= named
        if self.word(before) not in {",", ";", "."} and any(
            self.word(before - b) in _SUPPOSING | {"not", "never", "neither", "nor"}
            for b in range(2)
        ):
            return
        several = self.word(before) in {"or", "and", "/"}
        j = i + 1
        while j < len(self.tokens) and self.tokens[j].text in _CLOSING and j < i + 4:
            j += 1
        verbs = 0
        while self.word(j) in {"is", "must", "be", "should", "would", "has", "to", "seems"}:
            verbs, j = verbs + 1, j + 1
            if verbs > 4:
                return
        fits = self.word(j) in _FITTING and "best" in (self.word(j + 1), self.word(j + 2))
        if not verbs and (fits or (self.word(before) == "only" and self.word(j) in _FITTING)):
            yield _Statement(i, self.tokens[i].text.upper())
        if not verbs and self.word(before) not in {"makes", "making"}:
            return
        for _ in range(4):
            if self.word(j) in _PRAISE and (
                self.word(j) != "true" or named or self.word(before) == "only"
            ):
                if self.word(j + 1) not in {"if", "only", "when"}:
                    yield _Statement(i, None if several else self.tokens[i].text.upper())
                return
            if self.word(j) in {"better", "only"} and self.word(j + 1) in _NOUNS:
                yield _Statement(i, None if several else self.tokens[i].text.upper())
                return
            if self.word(j) not in _DEGREES:
                return
            j += 1

    def _pointed_at(self, i: int) -> Iterator[_Statement]:
        """A sentence that ends in the letter: "Therefore, C.", "this is option C."."""
        before = i - 1
        while before >= 0 and self.tokens[before].text in _OPENING and before > i - 4:
            before -= 1
        after = i + 1
        while after < len(self.tokens) and self.tokens[after].text in _CLOSING and after < i + 4:
            after += 1
        after = self._past_denied(after)
        if (self.word(after), self.word(after + 1)) == ("it", "is"):  # "So (C) it is."
            after += 2
        reason = after + (self.word(after) == ",")  # "It's C, since ..."
        if self.word(reason) in {"because", "since"}:
            verb = before - (self.word(before) == "s" and self.word(before - 1) == "'")
            if self.word(before) in {"is", "s"} and self.word(verb - 1) in {"it", "this", "that"}:
                yield _Statement(i, self.tokens[i].text.upper())
            return
        if not self._ends(after) or (after < len(self.tokens) and self._decimal(after)):
            return
        bracketed = before < i - 1
        last = self.word(before)
        if last in {"or", "and", "/", "&"}:
            inner = before - 1
            while inner >= 0 and self.tokens[inner].text in _CLOSING and inner > before - 3:
                inner -= 1
            if len(self.word(inner)) == 1 and self.word(inner).upper() in self.letters:
                yield _Statement(i, None)
            return
        if self.tokens[i].text.islower() and not (bracketed or last in _NOUNS):
            return
        # "A and C are wrong, which leaves B": what was denied is another option
        if last not in _CONCLUSIONS | {"leaves", "leaving"} and self._negated(before + 1, 4):
            return
        concluding = (
            last in _CONCLUSIONS
            or (last in {",", ":"} and self.word(before - 1) in _CONCLUSIONS)
            or (last == ":" and self.word(before - 1) == "final")
        )
        pointing = (
            (last in _POINTING and self.word(before - 1) not in {"could", "may", "might", "can"})
            or (last == "is" and self.word(before - 1) in _IT | _PRAISE)
            or (last == "," and len(self.word(before - 1)) > 1)  # "Based on this, B."
        )
        if concluding or (pointing and self._last_sentence(after)):
            yield _Statement(i, self.tokens[i].text.upper())

    def _past_denied(self, i: int) -> int:
        """The token after ", not A" or "(not A)" at token i; i itself without one."""
        if self.word(i) in {",", "("} and self.word(i + 1) in {"not", "nor", "never"}:
            for j in range(i + 2, min(i + 6, len(self.tokens))):
                if self._letter(j, bracketed=True) is not None:
                    return j + 1 + (self.word(j + 1) in _CLOSING)
        return i

    def _decimal(self, i: int) -> bool:
        """A full stop between two characters, as in "C.elegans"."""
        return (
            self.tokens[i].text == "."
            and i + 1 < len(self.tokens)
            and self.tokens[i + 1].glued
            and self.tokens[i + 1].text[0].isalnum()
        )

    def _last_sentence(self, after: int) -> bool:
        """Nothing but marks comes after token `after`."""
        return len(self.tokens) - after < 5 and all(
            token.text in {".", "!", ")", "]", "\n"} for token in self.tokens[after:]
        )

    def _starts_line(self, i: int) -> bool:
        return i == 0 or self.tokens[i - 1].text == "\n"

    def _alone(self, i: int) -> bool:
        """A letter stands at token i, and nothing but marks after it in its line."""
        seen = False
        for j in range(i, min(i + 10, len(self.tokens))):
            token = self.tokens[j]
            if token.text == "\n":
                return seen
            if token.text in _OPENING | _CLOSING | {".", "!", ","}:
                continue
            if seen or len(token.text) != 1 or token.text.upper() not in self.letters:
                return False
            seen = True
        return seen

    def bare_lines(self) -> Iterator[_Statement]:
        """Rule 4: lines that hold the letter alone, perhaps after "option"."""
        for start, end in self._line_ends():
            i = start
            if self.tokens[i].text.isdigit() and self.word(i + 1) == ".":
                i += 2  # a list's number
            for _ in range(4):  # "=> C", "- C", "∴ C"
                mark = self.word(i)
                if mark and not mark.isalnum() and mark not in _OPENING and mark != "\n":
                    i += 1
            if self.word(i) in _NOUNS:
                i += 1
            if i < end and self._alone(i):
                yield from self.letter_at(i)
                if self.tokens[i].text not in _OPENING and self.tokens[i].text in {".", ","}:
                    yield from self.letter_at(i + 1)

    def leading(self) -> Iterator[_Statement]:
        """Rule 5: the first or the last line begins with the letter. Lines that begin with
        different letters list the options, and settle nothing.
        """
        found: list[tuple[int, str]] = []
        lines = self._line_ends()
        for start, _ in lines:
            i = start + (self.word(start) in _NOUNS)
            opened = i < len(self.tokens) and self.tokens[i].text in _OPENING
            i += opened
            letter = self._letter(i, bracketed=opened)
            if letter is None or not self.tokens[i].text.isupper():
                continue
            mark = self.word(i + 1)
            if self._another(i + 1 + opened):
                found.append((start, ""))
            elif any(self.word(i + k) in {"is", "are"} for k in (1, 2)) and any(
                self.word(i + k) in _NEGATIONS for k in (2, 3)
            ):
                continue  # "(A) is wrong"
            elif (
                mark in {")", "]", ".", ":", "-", "–", "—"}
                or (mark == "," and letter not in "AI")
                or mark in {"because", "since"}
            ):
                found.append((start, letter))
        if found and len({letter for _, letter in found}) == 1 and found[0][1]:
            place = found[-1][0]
            if place in {lines[0][0], lines[-1][0]}:
                yield _Statement(place, found[0][1])

    def _line_ends(self) -> list[tuple[int, int]]:
        """(first token, token after the last) of every line that holds something."""
        edges = [-1, *self._lines, len(self.tokens)]
        return [(a + 1, b) for a, b in itertools.pairwise(edges) if b > a + 1]
