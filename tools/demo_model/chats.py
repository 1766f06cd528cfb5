"""Chat turns: sums, simple questions with one right answer, small talk, stories on request, and talks of several turns."""

import words
from grammar import expand, finish
from stories import PLOTS, SPECIES, Story

LIMIT = 99  # the largest number in a sum; results of additions go up to twice that
SYSTEMS = ["You are a helpful assistant.", "You are the demo model of Dacapo.", "You are a friendly assistant.", "Answer in short sentences.",
           "You are a small model that answers simple questions.", "Be kind and brief."]

PLUS = ["What is {a} + {b}?", "What's {a} + {b}?", "What is {a} plus {b}?", "What's {a} plus {b}?", "{a} + {b}", "{a} plus {b}", "{a}+{b}", "{a}+{b}=",
        "{a} + {b} = ?", "{a} + {b} =", "How much is {a} + {b}?", "How much is {a} plus {b}?", "Calculate {a} + {b}.", "Add {a} and {b}.",
        "What is the sum of {a} and {b}?", "Can you add {a} and {b}?", "Please add {b} to {a}.", "What is {a}+{b}?", "{a} and {b} make what?",
        "Compute {a} + {b}.", "What do you get if you add {a} and {b}?"]
MINUS = ["What is {a} - {b}?", "What's {a} - {b}?", "What is {a} minus {b}?", "What's {a} minus {b}?", "{a} - {b}", "{a} minus {b}", "{a}-{b}", "{a}-{b}=",
         "{a} - {b} = ?", "{a} - {b} =", "How much is {a} - {b}?", "How much is {a} minus {b}?", "Calculate {a} - {b}.", "Subtract {b} from {a}.",
         "What is {a} less {b}?", "Take {b} away from {a}.", "What is {a}-{b}?", "What is the difference between {a} and {b}?", "Compute {a} - {b}.",
         "What do you get if you take {b} from {a}?"]
TALES = [
    ("I have {a} {things}. I buy {b} more. How many {things} do I have now?", "+", "You have {r} {things} now."),
    ("{name} has {a} {things} and finds {b} more. How many {things} does {name} have?", "+", "{name} has {r} {things}."),
    ("{name} has {a} {things} and gives away {b}. How many {things} are left?", "-", "{name} has {r} {things} left."),
    ("There are {a} {things} on the table. I eat {b}. How many are left?", "-", "There are {r} {things} left."),
]
THINGS = ["apples", "nuts", "plums", "cookies", "pears", "cherries"]

OPPOSITES = """hot cold|big small|up down|day night|happy sad|fast slow|old new|long short|open closed|light dark|wet dry|hard soft|full empty|rich poor
high low|left right|good bad|early late|near far|strong weak|clean dirty|loud quiet|young old|thick thin|heavy light|true false|sweet sour|black white
summer winter|first last|begin end|inside outside|above below|push pull|win lose|love hate|awake asleep|wide narrow|brave afraid|always never|yes no
give take|buy sell|come go|cheap expensive|easy difficult|smooth rough|sharp blunt|deep shallow|tall short|warm cool|before after|front back|top bottom"""
COLOURS = {"the sky": "blue", "grass": "green", "snow": "white", "coal": "black", "a banana": "yellow", "a lemon": "yellow", "a tomato": "red", "blood": "red",
           "the sun": "yellow", "a strawberry": "red", "an orange": "orange", "a carrot": "orange", "milk": "white", "a leaf": "green", "the sea": "blue",
           "chocolate": "brown", "a frog": "green", "a flamingo": "pink", "an elephant": "grey", "a polar bear": "white", "a pumpkin": "orange",
           "a crow": "black", "a cucumber": "green", "a fire engine": "red", "a ripe cherry": "red", "the night": "black", "a violet": "purple",
           "a cloud": "white", "wood": "brown", "a swan": "white", "a pea": "green", "a pig": "pink", "salt": "white", "a plum": "purple"}
SOUNDS = {"cat": "meow", "dog": "woof", "cow": "moo", "sheep": "baa", "duck": "quack", "pig": "oink", "horse": "neigh", "lion": "roar", "frog": "ribbit",
          "owl": "hoot", "bee": "buzz", "mouse": "squeak", "snake": "hiss", "chicken": "cluck", "wolf": "howl", "crow": "caw", "bird": "tweet", "goat": "maa"}
YOUNG = {"cat": "kitten", "dog": "puppy", "cow": "calf", "sheep": "lamb", "pig": "piglet", "horse": "foal", "duck": "duckling", "hen": "chick",
         "bear": "cub", "lion": "cub", "goat": "kid", "frog": "tadpole", "swan": "cygnet", "goose": "gosling", "deer": "fawn", "kangaroo": "joey",
         "owl": "owlet", "fox": "cub", "wolf": "cub", "elephant": "calf"}
LEGS = {"a dog": "four", "a cat": "four", "a spider": "eight", "a bird": "two", "an ant": "six", "a bee": "six", "a horse": "four", "a human": "two",
        "a snake": "no", "a fish": "no", "a cow": "four", "a duck": "two", "a beetle": "six", "a chicken": "two", "a butterfly": "six", "a frog": "four",
        "a table": "four", "an elephant": "four", "a lion": "four", "a sheep": "four", "a mouse": "four"}
PLURALS = """cat cats|dog dogs|child children|mouse mice|foot feet|tooth teeth|man men|woman women|goose geese|leaf leaves|knife knives|wolf wolves|box boxes
fox foxes|bus buses|city cities|baby babies|story stories|berry berries|sheep sheep|fish fish|apple apples|book books|tree trees|house houses|star stars
person people|loaf loaves|tomato tomatoes|potato potatoes|dish dishes|glass glasses|key keys|boy boys|day days|wish wishes|bird birds|horse horses|egg eggs
lady ladies|party parties|flower flowers|watch watches|cherry cherries|shelf shelves|half halves|ox oxen|cow cows|pony ponies|penny pennies"""
CAPITALS = {"France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Germany": "Berlin", "Japan": "Tokyo", "England": "London", "Egypt": "Cairo",
            "Greece": "Athens", "Portugal": "Lisbon", "Norway": "Oslo", "Poland": "Warsaw", "Austria": "Vienna", "Sweden": "Stockholm", "China": "Beijing",
            "Ireland": "Dublin", "Hungary": "Budapest", "Finland": "Helsinki", "Denmark": "Copenhagen", "Russia": "Moscow", "India": "New Delhi"}
PLAIN = {  # question forms -> (answer sentence, the word that makes it right)
    "How many days are in a week?|How many days does a week have?": ("A week has seven days.", "seven"),
    "How many months are in a year?|How many months does a year have?": ("A year has twelve months.", "twelve"),
    "How many hours are in a day?|How many hours does a day have?": ("A day has 24 hours.", "24"),
    "How many minutes are in an hour?|How many minutes does an hour have?": ("An hour has 60 minutes.", "60"),
    "How many seconds are in a minute?": ("A minute has 60 seconds.", "60"),
    "How many letters are in the alphabet?": ("The alphabet has 26 letters.", "26"),
    "How many sides does a triangle have?": ("A triangle has three sides.", "three"),
    "How many sides does a square have?": ("A square has four sides.", "four"),
    "How many wheels does a bicycle have?": ("A bicycle has two wheels.", "two"),
    "How many wheels does a car have?": ("A car has four wheels.", "four"),
    "How many fingers are on one hand?|How many fingers does a hand have?": ("A hand has five fingers.", "five"),
    "How many seasons are there?|How many seasons are in a year?": ("There are four seasons.", "four"),
    "What are the seasons?|Name the four seasons.": ("The seasons are spring, summer, autumn and winter.", "autumn"),
    "What do bees make?": ("Bees make honey.", "honey"),
    "What do cows give us?": ("Cows give us milk.", "milk"),
    "What do hens lay?": ("Hens lay eggs.", "eggs"),
    "What do we see with?|What do you see with?": ("We see with our eyes.", "eyes"),
    "What do we hear with?": ("We hear with our ears.", "ears"),
    "Where do fish live?": ("Fish live in water.", "water"),
    "Where do birds sleep?|Where do birds live?": ("Birds live in nests.", "nest"),
    "What is frozen water called?|What is ice made of?": ("Ice is frozen water.", "Ice"),
    "What falls from the clouds?": ("Rain falls from the clouds.", "Rain"),
    "Is the sun hot or cold?|Is the sun hot?": ("The sun is hot.", "hot"),
    "Is ice hot or cold?|Is ice cold?": ("Ice is cold.", "cold"),
    "What is the largest animal?|What is the biggest animal?": ("The blue whale is the largest animal.", "whale"),
    "What is the tallest animal?": ("The giraffe is the tallest animal.", "giraffe"),
    "When does the sun rise?": ("The sun rises in the morning.", "morning"),
    "When do we see the stars?|When can I see the stars?": ("We see the stars at night.", "night"),
    "What shape is a ball?": ("A ball is round.", "round"),
}
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SPELL = "cat dog sun moon star tree bird fish house book apple frog bear lion duck owl milk bread water green blue red hello friend river snow rain cake".split()

TALK = [  # user forms -> answer forms
    ("[Hi|Hello|Hey|Hello there|Hi there|Hey there|Good day]", "[Hello! How can I help you?|Hi! What can I do for you?|Hello! It is nice to meet you.]"),
    ("Good morning", "Good morning! How can I help you?"), ("Good evening", "Good evening! How can I help you?"),
    ("[How are you?|How are you today?|How do you do?|Are you well?|How is it going?]", "[I am fine, thank you. How can I help you?|I am well, thank you. And you?]"),
    ("[Thank you|Thanks|Thank you very much|Thanks a lot|Many thanks|Thank you for your help]", "[You are welcome!|You are welcome. I am glad to help.]"),
    ("[Who are you?|What are you?|Tell me about yourself.|Introduce yourself.]",
     "[I am the demo model of Dacapo. I can do small sums, answer simple questions and tell short stories."
     "|I am the small demo model of Dacapo. I know sums, simple questions and short stories.]"),
    ("[What is your name?|What's your name?|Do you have a name?]", "I am the demo model of Dacapo."),
    ("[What can you do?|What do you know?|How can you help me?|Help|Can you help me?]",
     "I can do small sums, answer simple questions and tell you a short story."),
    ("[Are you a robot?|Are you a human?|Are you a person?|Are you real?|Are you alive?]", "I am not a person. I am a small language model, the demo model of Dacapo."),
    ("[What is Dacapo?|Tell me about Dacapo.|Who made you?]", "Dacapo is a program that runs language models on your own computer. I am its demo model."),
    ("[How old are you?|Where do you live?|Where are you?]", "I am a small language model, and I live on your computer."),
    ("[How big are you?|Are you a big model?|Are you smart?]", "I am a very small model, so I only know simple things."),
    ("[Goodbye|Bye|See you later|Good night|Bye bye|See you]", "[Goodbye! Have a nice day.|Goodbye! Come back soon.]"),
    ("[I am sad.|I feel sad.|I am not happy today.]", "I am sorry to hear that. Would you like to hear a story?"),
    ("[I am happy.|I feel great.|I am very happy today.]", "That is wonderful! I am happy for you."),
    ("[You are nice.|You are great!|Good job!|Well done!|Great!|Nice!|Very good.|That was nice.]", "[Thank you! I am glad you like it.|Thank you very much!]"),
    ("[Do you like {things}?|Do you like stories?|Do you like music?]", "I am a model, so I cannot like things. But I like to be useful."),
    ("[Ok|Okay|I see|Good|Fine|Alright]", "Good. What else can I do for you?"),
    ("[That is wrong.|You are wrong.|No, that is not right.]", "I am sorry. I am only a small model, and I make mistakes."),
    ("[Tell me a joke.|Do you know a joke?|Make me laugh.|Another joke, please.]",
     "[Why did the clock go to school? It wanted to be on time.|What do you call a bear with no teeth? A gummy bear."
     "|Why was the book sad? It had too many problems on its pages.|What has four legs and cannot walk? A table.]"),
]
UNKNOWN = """[Who is|Who was] [the president|the king of {where}|Albert Einstein|Shakespeare|the first person on the moon|Mozart]?
What is the [meaning of life|weather today|time|price of gold|population of {where}|square root of {n}|speed of light|news today]?
[Write|Give me] [a program in {lang}|an email to my boss|a letter to my bank|a speech|some code in {lang}|an essay about {where}].
[Translate|How do you say] {things} [to|in] [French|Spanish|German|Latin]{q}
[How do I|How can I] [fix my car|cook rice|learn {lang}|install a program|lose weight|get to {where}|make money]?
[Explain|What is] [gravity|a black hole|machine learning|photosynthesis|an atom|democracy|inflation|a transformer]{q}
When [was {where} founded|did the war end|is the next election|was the wheel invented]?
Why [is the sky blue|do we dream|do cats purr|is water wet|does it rain]?
What is {n} times {m}?|What is {n} divided by {m}?|{n} * {m}|How do I multiply {n} and {m}?"""
UNKNOWN_ANSWERS = ["I am sorry, I do not know that. I am only a small demo model.",
                   "I do not know that. I can only do small sums, answer simple questions and tell short stories."]
STORY_ASKS = ["Tell me a story about {x}.", "Tell me a story about {x}.", "Tell me a short story about {x}.", "Write a story about {x}.",
              "Can you tell me a story about {x}?", "Please tell me a story about {x}.", "I want a story about {x}.", "Write a short story about {x}.",
              "Do you know a story about {x}?", "A story about {x}, please."]
ANY_STORY = ["Tell me a story.", "Tell me a short story.", "Can you tell me a story?", "Please tell me a story.", "I want to hear a story.", "Write a story.",
             "Do you know a story?", "Tell me a bedtime story.", "Write a short story.", "Another story, please.", "Tell me another story."]


def pairs(text):
    return [tuple(p.split()) for p in text.replace("\n", "|").split("|")]


OPPOSITE_PAIRS, PLURAL_PAIRS = pairs(OPPOSITES), pairs(PLURALS)
FIRST_OPPOSITE = {}
for _left, _right in OPPOSITE_PAIRS:
    FIRST_OPPOSITE.setdefault(_left, _right)
for _left, _right in OPPOSITE_PAIRS:
    FIRST_OPPOSITE.setdefault(_right, _left)


def held_out(a, b):
    """A tenth of the pairs never occur in the training text, so that learned addition can be told from a learned table."""
    return (a * 131 + b * 37) % 97 < 10


def pair(rng, sign, evaluation=False, limit=LIMIT):
    while True:
        # Small numbers are what people try first: half of the pairs are below 51.
        top = limit if rng.random() < 0.5 else min(limit, 50)
        a, b = rng.randint(0, top), rng.randint(0, top)
        if sign == "-" and b > a:
            a, b = b, a
        if evaluation or not held_out(a, b):
            return a, b


def sum_turn(rng, sign=None, a=None, b=None, form=None):
    """(question, answer, number)."""
    sign = sign or rng.choice("++-")
    if a is None:
        a, b = pair(rng, sign)
    r = a + b if sign == "+" else a - b
    if form is None:
        form = rng.choice(PLUS if sign == "+" else MINUS)
    answer = f"{a} plus {b} is {r}." if "plus" in form else f"{a} minus {b} is {r}." if "minus" in form else f"{a} {sign} {b} is {r}."
    return form.format(a=a, b=b), answer, str(r)


def tale_turn(rng):
    question, sign, answer = rng.choice(TALES)
    while True:
        a, b = rng.randint(2, 30), rng.randint(2, 20)
        r = a + b if sign == "+" else a - b
        if r > 1 and not held_out(a, b):
            break
    slots = {"a": a, "b": b, "r": r, "things": rng.choice(THINGS), "name": rng.choice(words.GIRLS + words.BOYS)}
    return question.format(**slots), answer.format(**slots), str(r)


def an(word):
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def upper(text):
    return text[0].upper() + text[1:]


def question_turn(rng, kind=None):
    """(question, answer, expected word) of a simple question."""
    pick = rng.choice
    kind = kind or pick(QUESTION_KINDS)
    if kind == "opposite":
        word = pick(list(FIRST_OPPOSITE))
        other = FIRST_OPPOSITE[word]
        form = pick(["What is the opposite of {w}?", "What's the opposite of {w}?", "Opposite of {w}?", "The opposite of {w} is what?", "Tell me the opposite of {w}."])
        return form.format(w=word), f"The opposite of {word} is {other}.", f"is {other}."
    if kind == "colour":
        thing, colour = pick(list(COLOURS.items()))
        form = pick(["What colour is {t}?", "What color is {t}?", "Which colour does {t} have?", "What is the colour of {t}?", "Tell me the colour of {t}."])
        return form.format(t=thing), f"{upper(thing)} is {colour}.", f"is {colour}"
    if kind == "sound":
        animal, sound = pick(list(SOUNDS.items()))
        form = pick(["What does {a} say?", "What sound does {a} make?", "Which sound does {a} make?", "What noise does {a} make?", "How does {a} sound?"])
        return form.format(a=an(animal)), f"{upper(an(animal))} says {sound}.", sound
    if kind == "young":
        animal, young = pick(list(YOUNG.items()))
        form = pick(["What is a baby {a} called?", "What is a young {a} called?", "What do you call a baby {a}?", "What do you call a young {a}?"])
        return form.format(a=animal), f"A young {animal} is called a {young}." if young[0] not in "aeiou" else f"A young {animal} is called an {young}.", young
    if kind == "legs":
        thing, legs = pick(list(LEGS.items()))
        form = pick(["How many legs does {t} have?", "How many legs has {t}?", "Tell me how many legs {t} has."])
        return form.format(t=thing), f"{upper(thing)} has {legs} legs.", f"{legs} legs"
    if kind == "plural":
        one, many = pick(PLURAL_PAIRS)
        form = pick(["What is the plural of {w}?", "What's the plural of {w}?", "Plural of {w}?", "One {w}, two what?", "Tell me the plural of {w}."])
        return form.format(w=one), f"The plural of {one} is {many}.", f"is {many}."
    if kind == "capital":
        country, city = pick(list(CAPITALS.items()))
        form = pick(["What is the capital of {c}?", "What's the capital of {c}?", "Which city is the capital of {c}?", "Capital of {c}?", "Tell me the capital of {c}."])
        return form.format(c=country), f"The capital of {country} is {city}.", city
    if kind == "day":
        i, way = rng.randrange(7), pick(["after", "before"])
        result = DAYS[(i + (1 if way == "after" else -1)) % 7]
        form = pick(["What day comes {w} {d}?", "Which day comes {w} {d}?", "Which day is {w} {d}?", "What is the day {w} {d}?"])
        verb = "comes"
        return form.format(w=way, d=DAYS[i]), f"{result} {verb} {way} {DAYS[i]}.", result
    if kind == "month":
        i, way = rng.randrange(12), pick(["after", "before"])
        result = MONTHS[(i + (1 if way == "after" else -1)) % 12]
        form = pick(["What month comes {w} {d}?", "Which month comes {w} {d}?", "Which month is {w} {d}?", "What is the month {w} {d}?"])
        return form.format(w=way, d=MONTHS[i]), f"{result} comes {way} {MONTHS[i]}.", result
    if kind == "number":
        i, way = rng.randint(1, 98), pick(["after", "before"])
        result = i + 1 if way == "after" else i - 1
        form = pick(["What number comes {w} {d}?", "Which number comes {w} {d}?", "Which number is {w} {d}?", "What comes {w} {d}?"])
        return form.format(w=way, d=i), f"{result} comes {way} {i}.", f"{result} comes"
    if kind == "letter":
        i, way = rng.randint(1, 24), pick(["after", "before"])
        result = LETTERS[i + (1 if way == "after" else -1)]
        form = pick(["What letter comes {w} {d}?", "Which letter comes {w} {d}?", "Which letter is {w} {d}?"])
        return form.format(w=way, d=LETTERS[i]), f"{result} comes {way} {LETTERS[i]}.", f"{result} comes"
    if kind == "compare":
        a, b = rng.sample(range(100), 2)
        bigger = rng.random() < 0.6
        word = pick(["bigger", "larger", "greater", "more"]) if bigger else pick(["smaller", "less"])
        form = pick(["Which is {w}, {a} or {b}?", "What is {w}, {a} or {b}?", "Which number is {w}, {a} or {b}?", "Is {a} or {b} {w}?"])
        x, y = (max(a, b), min(a, b)) if bigger else (min(a, b), max(a, b))
        return form.format(w=word, a=a, b=b), f"{x} is {word} than {y}.", f"{x} is {word}"
    if kind == "spell":
        word = pick(SPELL)
        form = pick(["Spell {w}.", "How do you spell {w}?", "Can you spell {w}?", "Please spell {w}."])
        return form.format(w=word), "-".join(word.upper()) + ".", "-".join(word.upper())
    if kind == "count":
        start = pick([1, 1, 1, rng.randint(0, 20)])
        end = start + rng.randint(2, 10)
        form = pick(["Count from {a} to {b}.", "Can you count from {a} to {b}?", "Please count from {a} to {b}."] + ["Count to {b}."] * (start == 1))
        numbers = ", ".join(str(n) for n in range(start, end + 1))
        return form.format(a=start, b=end), numbers + ".", numbers
    forms, (answer, word) = pick(list(PLAIN.items()))
    return pick(forms.split("|")), answer, word


QUESTION_KINDS = ["opposite", "opposite", "colour", "sound", "young", "legs", "plural", "plural", "capital", "day", "month", "number", "letter",
                  "compare", "spell", "count", "plain", "plain"]


def story_turns(rng):
    """A story on request, at times with questions about it afterwards."""
    turns = []
    if rng.random() < 0.3:
        story = Story(rng, short=True, once=True if rng.random() < 0.7 else None)
        ask = rng.choice(ANY_STORY)
    else:
        species = rng.choice(SPECIES)
        plot = rng.choice(list(PLOTS))
        named = rng.random() < 0.15
        story = Story(rng, species=species, plot=plot, short=True)
        draw = rng.random()
        if named:
            subject = rng.choice([an(species) + " named ", an(species) + " called "]) + story.hero.name
        elif draw < 0.6:
            subject = an(species)
        elif draw < 0.75 and not story.friend.human and f" {story.friend.species} " in story.text:
            subject = f"{an(species)} and {an(story.friend.species)}"
        elif draw < 0.9 or story.topic.startswith("look"):
            subject = story.topic
        else:
            subject = f"{an(species)} and {story.topic}"
        ask = finish(rng.choice(STORY_ASKS).format(x=subject))
    turns.append((ask, story.text))
    if rng.random() < 0.35:
        hero, friend = story.hero, story.friend
        kind = rng.randrange(4)
        if kind == 0:
            turns.append((rng.choice([f"What was the {hero.species} called?", f"What was the name of the {hero.species}?"])
                          if hero.species != friend.species else "Who was the story about?", f"The {hero.species} was called {hero.name}."))
        elif kind == 1:
            turns.append((rng.choice([f"Who was {hero.name}?", f"What was {hero.name}?"]), f"{hero.name} was {an(hero.noun)}."))
        elif kind == 2:
            turns.append((rng.choice(["Who was the story about?", "Who was in the story?"]), f"The story was about {hero.name} the {hero.species}."))
        else:
            turns.append((rng.choice(["I like the story.", "That was a nice story.", "What a nice story!"]), "I am glad that you like it!"))
    return turns


def name_turns(rng):
    """The user says a name, and asks for it later."""
    name = rng.choice(words.GIRLS + words.BOYS + words.PET_NAMES)
    turns = [(rng.choice([f"My name is {name}.", f"I am {name}.", f"Hello, my name is {name}.", f"Hi, I am {name}."]),
              rng.choice([f"Hello, {name}! How can I help you?", f"Nice to meet you, {name}!"]))]
    for _ in range(rng.choice([0, 1, 1, 2])):
        turns.append(simple_turn(rng)[:2])
    turns.append((rng.choice(["What is my name?", "Do you remember my name?", "Who am I?", "What's my name?"]), f"Your name is {name}."))
    return turns


def running_sum(rng):
    """A sum, and then more added to its result."""
    a, b = pair(rng, "+", limit=40)
    question, answer, r = sum_turn(rng, "+", a, b)
    turns, r = [(question, answer)], int(r)
    for _ in range(rng.randint(1, 3)):
        n = rng.randint(1, 20)
        if r + n > 150:
            break
        if rng.random() < 0.65 or n > r:
            turns.append((rng.choice(["And plus {n}?", "Now add {n}.", "Add {n}.", "And {n} more?", "Plus {n}?"]).format(n=n), f"{r} + {n} is {r + n}."))
            r += n
        else:
            turns.append((rng.choice(["And minus {n}?", "Now subtract {n}.", "Now take away {n}.", "Minus {n}?"]).format(n=n), f"{r} - {n} is {r - n}."))
            r -= n
    return turns


def talk_turn(rng):
    user, answer = rng.choice(TALK)
    slots = {"things": rng.choice(THINGS)}
    user = expand(rng, user, slots)
    if user[-1].isalpha() and rng.random() < 0.5:
        user += rng.choice("!.")
    return user, expand(rng, answer, slots), ""


def unknown_turn(rng):
    slots = {"where": rng.choice(["Rome", "Brazil", "Canada", "Mars", "Texas", "Kenya"]), "lang": rng.choice(["Python", "Rust", "C", "Java"]),
             "things": rng.choice(THINGS), "n": str(rng.randint(2, 30)), "m": str(rng.randint(2, 12)), "q": rng.choice(["?", "."])}
    form = rng.choice([f for f in UNKNOWN.split("\n")[:-1]] + UNKNOWN.split("\n")[-1].split("|"))
    return expand(rng, form, slots), rng.choice(UNKNOWN_ANSWERS), ""


def simple_turn(rng):
    draw = rng.random()
    return sum_turn(rng) if draw < 0.45 else question_turn(rng) if draw < 0.75 else talk_turn(rng) if draw < 0.95 else unknown_turn(rng)


def typed(rng, text):
    """As people type: at times all small letters, no mark at the end, or politely."""
    draw = rng.random()
    if draw < 0.12:
        text = text.lower()
    elif draw < 0.18 and len(text) > 8:
        text = rng.choice(["Please, ", "Hi, ", "Hello! ", "Hey, ", "Ok, "]) + (text if text[0] == "I" else text[0].lower() + text[1:])
    if rng.random() < 0.12:
        text = text.rstrip("?.!")
    return text


def chat(rng):
    """A whole chat: (system text or None, [(user, assistant)])."""
    draw = rng.random()
    if draw < 0.40:
        turns = [sum_turn(rng)[:2]]
    elif draw < 0.56:
        turns = [question_turn(rng)[:2]]
    elif draw < 0.60:
        turns = [talk_turn(rng)[:2]]
    elif draw < 0.63:
        turns = [unknown_turn(rng)[:2]]
    elif draw < 0.66:
        turns = [tale_turn(rng)[:2]]
    elif draw < 0.70:
        turns = running_sum(rng)
    elif draw < 0.74:
        turns = name_turns(rng)
    elif draw < 0.84:
        turns = story_turns(rng)
    else:
        turns = []
        for _ in range(rng.randint(2, 6)):
            turns += story_turns(rng) if rng.random() < 0.12 else running_sum(rng)[:2] if rng.random() < 0.1 else [simple_turn(rng)[:2]]
    system = rng.choice(SYSTEMS) if rng.random() < 0.2 else None
    return system, [(typed(rng, user), answer) for user, answer in turns]


if __name__ == "__main__":
    import random
    import sys

    source = random.Random(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    for _ in range(40):
        print(chat(source))
