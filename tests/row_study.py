"""A study of rows, as small as one can be: the greatest letter of each word."""

from typing import Annotated, Literal

from pydantic import Field

from sfusion.experiments.comparison import Compared
from sfusion.experiments.profiles import Names, StudyProfile
from sfusion.experiments.study import RowStudy


class LetterProfile(StudyProfile):
    """Which words are read."""

    study: Literal["letters"]
    words: Annotated[Names, Field(min_length=1)]


class LetterStudy(RowStudy):
    """Rows of words, and of their letters; the longest words are read first."""

    profile_type = LetterProfile
    frames = {
        "words": Compared(keys=("word",), values=("greatest", "size"), tolerance=1),
        "letters": Compared(keys=("word", "place")),
    }

    def rounds(self):
        """List the words of the profile, those of more than three letters first."""
        words = self.profile.words
        long = [word for word in words if len(word) > 3]
        return [long, [word for word in words if word not in long]]

    def measure(self, unit, store):
        """File the greatest letter of a word."""
        record = store.recorded({"word": unit}, lambda: max(unit))
        word = {"word": unit, "greatest": record["value"], "size": len(unit)}
        letters = [{"word": unit, "place": place} for place in range(len(unit))]
        return {"words": [word], "letters": letters}


STUDY = LetterStudy
