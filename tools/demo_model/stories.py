"""Short stories from a grammar: characters, a place, a trouble with a cause, and an ending that follows from it."""

import words
from grammar import expand, finish

PRONOUNS = {"he": ("he", "him", "his"), "she": ("she", "her", "her")}


class Character:
    """Somebody in a story: a name, what it is, pronouns, a home and a favourite food."""

    def __init__(self, rng, species=None, pronoun=None, taken=()):
        self.pronoun = pronoun or rng.choice(["he", "she"])
        if species is None:
            species = "child" if rng.random() < 0.4 else rng.choice(list(words.ANIMALS))
        if species in ("girl", "boy", "child", "princess", "prince"):
            if species in ("girl", "princess"):
                self.pronoun = "she"
            elif species in ("boy", "prince"):
                self.pronoun = "he"
            if species == "child":
                species = "girl" if self.pronoun == "she" else "boy"
            names = words.GIRLS if self.pronoun == "she" else words.BOYS
            royal = species in ("princess", "prince")
            self.home = rng.choice(["in a castle with seven towers", "in a white castle on a hill"] if royal else
                                   ["in a small house by the river", "above the bakery", "in a house with a blue door",
                                    "on a farm with her family" if self.pronoun == "she" else "on a farm with his family",
                                    "in a tall house near the market"])
            self.food = rng.choice(["pancakes", "apple cake", "warm bread", "strawberry jam", "vegetable soup"])
            self.adjective = rng.choice(["young", "little", "clever", "kind"] if royal else ["little", "young", "small"])
            self.human = True
        else:
            homes, self.food, adjectives = words.ANIMALS[species]
            names = words.PET_NAMES
            self.home = rng.choice(homes.split("|"))
            self.adjective = rng.choice(adjectives.split("|"))
            self.human = False
        self.name = rng.choice([n for n in names if n not in taken])
        self.species = species
        self.noun = f"{self.adjective} {species}"

    def slots(self, key):
        he, him, his = PRONOUNS[self.pronoun]
        return {key: self.name, key + "intro": f"a {self.noun} [named|called] {self.name}", key + "the": f"the {self.noun}",
                key + "any": f"[{self.name}|{self.name}|the {self.species}]", key + "he": he, key + "him": him, key + "his": his,
                key + "home": self.home, key + "food": self.food, key + "kind": self.species, key + "noun": self.noun}


# Sentences that several plots share.
OPENINGS = [
    "once upon a time[,|] there was {Aintro}. {Ahe} lived {Ahome}.",
    "once upon a time, {Aintro} lived {Ahome}.",
    "once upon a time, in {village}, there lived {Aintro}.",
    "once upon a time there lived {Aintro}. {A}'s home was {Ahome}.",
    "once upon a time, there was {Aintro} who loved {hobby}.",
]
OTHER_OPENINGS = [
    "long ago, in {village}, there lived {Aintro}.",
    "there once was {Aintro} who lived {Ahome}.",
    "in {village} lived {Aintro}.",
    "{A} was a {Anoun} who lived {Ahome}.",
    "{A} the {Akind} lived {Ahome}.",
    "this is the story of {Aintro}, who lived {Ahome}.",
    "one [fine|sunny|quiet] [morning|day], {Aintro} [woke up early|looked out at the blue sky|sat down to think].",
    "far away, in {village}, there was {Aintro}.",
]
ABOUT = [
    "{Aany} was {trait} and loved {hobby}.",
    "{Ahe} was {trait}, and {Ahe} loved {Afood} more than anything[| else].",
    "everybody [said|knew] that no other {Akind} was as {trait} as {A}.",
    "{A} was [very|always] {trait}, but {Ahe} was [also|sometimes] a little {fault}.",
    "every [day|morning], {Ahe} [liked|loved] {hobby}.",
]
WEATHER = [
    "one [fine|bright|sunny|windy|warm|fresh] [morning|day|afternoon],",
    "one [morning|day|afternoon] in [spring|summer|autumn],",
    "early one morning,",
    "on the first [warm|sunny] day of the year,",
    "one day,",
]
# What an ending needs of its plot: a trip to come home from, or a single day.
ENDINGS = {
    "": ["and [so|] they lived happily [ever after|for many years].", "from that day on, {A} and {B} were the best of friends.",
         "{A} never forgot [that day|what {Ahe} had learned].", "and whenever [it rained|spring came], {A} remembered it and smiled.",
         "and if you [walk past|listen closely] today, you may still [see them together|hear them laugh]."],
    "day": ["that night, {A} fell asleep with a smile on {Ahis} face.", "it had been the best day [of all|of the whole year].",
            "the [sun went down|moon rose], and all was well."],
    "trip": ["then they [all|both] went home for [supper|hot soup|{Afood}].", "when they came home, [supper was ready|the moon was already in the sky]."],
}
DAY_PLOTS = {"lost", "friend", "cake", "rain", "race", "map", "wish", "gift", "song", "share"}
TRIP_PLOTS = {"lost", "rain", "race", "map"}
GENERAL = {
    "happy": "[happy|glad|delighted|full of joy]",
    "sad": "[sad|unhappy|very sad|close to tears]",
    "said": "[said|said|asked|whispered]",
    "walked": "[walked|ran|hurried|set off]",
    "looked": "[looked|searched]",
    "smiled": "[smiled|laughed|nodded|grinned]",
    "thanks": "[\"thank you,\" said|\"thank you so much,\" said|\"how kind of you!\" said]",
    "nicefood": "[a slice of apple cake|a warm bun|a ripe pear|a piece of bread with honey|a handful of berries|some sweet plums]",
}

# Each plot: topics it can be asked for by, then its beats. A beat is a template; one that begins with "?" may be left out.
# "---" starts a new paragraph.
PLOTS = {
    "lost": (["{treasure}", "something that was lost", "looking for things"], [
        "?{Ahis} [favourite|dearest] thing in the world was a {treasure}.",
        "{weather} {A} took {Ahis} {treasure} to {place}.",
        "?[all around {Ahim} were|there {Ahe} saw] {sight1} and {sight2}.",
        "{A} [played|played happily] until [noon|the sun stood high|the bells rang], but then {Ahe} noticed that the {treasure} was gone.",
        "?\"oh no!\" [cried|said] {A}. \"where is my {treasure}?\"",
        "{Ahe} {looked} {spot1}, but [it was not there|there was nothing there].",
        "?{Ahe} {looked} {spot2}, but [found only [an old shoe|a rusty key|some dry leaves|a broken cup]|it was not there either].",
        "{A} sat down and felt {sad}.",
        "---",
        "just then, {Bintro} came [along|by].",
        "\"why are you so sad?\" asked {B}.",
        "\"I have lost my {treasure},\" [said|answered] {A}.",
        "\"do not [worry|cry],\" said {B}. \"we will look for it together.\"",
        "?together they {looked} [everywhere|high and low], and {B} even asked [a passing bird|a snail|an old crow|a busy ant].",
        "[at last|in the end|after a long time], {B} found the {treasure} {spot3}.",
        "{A} was so {happy} that {Ahe} [hugged {B}|danced in a circle|jumped up and down].",
        "{thanks} {A}, and {Ahe} let {B} [play with it|hold it] [all afternoon|until evening].",
    ]),
    "friend": (["friendship", "making a friend", "two friends"], [
        "{A} had [a warm bed and plenty of {Afood}|everything {Ahe} needed], but {Ahe} had no one to play with.",
        "?some days {Ahe} [talked to the wind|played alone in {place}|sat at the window and counted clouds].",
        "{weather} {Ahe} [went|walked] to {place}, and there {Ahe} met {Bintro}.",
        "{B} was [sitting all alone|hiding] {spot1}.",
        "\"hello,\" said {A}. \"[what are you doing|why are you here all alone]?\"",
        "{B} was [shy|a little shy] at first and [said nothing|looked at the ground].",
        "---",
        "so {A} [sat down beside {Bhim} and shared {nicefood}|gave {Bhim} {nicefood}].",
        "{B} [took a bite|tasted it] and {smiled}. \"this is [good|wonderful],\" {Bhe} said. \"I am new here, and I do not know anybody.\"",
        "\"now you know me,\" said {A}.",
        "?they looked at {sight1} and {sight2} together.",
        "they [played hide and seek|told each other jokes|raced each other|built a little tower of stones] until [the sun went down|it grew dark].",
        "\"will you come [back|again] tomorrow?\" asked {B}. \"of course I will,\" said {A}. \"friends always come back.\"",
    ]),
    "dark": (["being brave", "the dark", "night"], [
        "{A} was [not afraid of anything|brave] by day, but at night {Ahe} was afraid of the dark.",
        "when the sun went down, every [shadow|sound] seemed [big and strange|to be a monster].",
        "one night, {A} heard [a scratching sound|a soft knock|a strange creak] [outside|near the door].",
        "?{Ahis} heart beat [fast|like a little drum], and {Ahe} hid under the blanket.",
        "[at last {Ahe} peeped out|slowly, {Ahe} looked out], and there stood {Bintro}.",
        "---",
        "\"I am sorry,\" said {B}. \"I did not mean to scare you. I only wanted to show you something.\"",
        "{B} took {A} [outside|up the hill] and pointed at the sky.",
        "there were [a thousand stars|more stars than anyone could count], and the moon [shone like a lamp|was round and bright].",
        "?an owl called softly, and [a cool wind|the smell of flowers] came from {place}.",
        "\"you see,\" said {B}, \"without the dark, there would be no stars.\"",
        "{A} looked [up|at the stars] for a long time, and [little by little|slowly] {Ahis} fear [went away|melted like snow].",
        "after that night, {A} was never afraid of the dark again.",
    ]),
    "rescue": (["helping", "a good deed", "kindness"], [
        "{weather} {A} was walking [in|through] {place} when {Ahe} heard a [small|tiny|faint] voice.",
        "\"help! please help me!\" [cried|called] the voice.",
        "{A} {looked} {spot1}, and there {Ahe} found {Bintro}. {Bhis} [foot|leg] was [stuck under a heavy branch|caught in an old rope|stuck between two stones].",
        "?\"[hold still|do not move],\" said {A}. \"I will get you out.\"",
        "{A} [pulled and pulled|pushed with all {Ahis} might|worked very carefully], and at last {B} was free.",
        "{thanks} {B}. \"one day I will help you too.\"",
        "?{A} {smiled}. {Ahe} did not think that [anyone so small|{B}] could ever help {Ahim}.",
        "---",
        "some [days|weeks] later, {A} went for a walk, and a thick fog came down.",
        "{Ahe} could not [see the path|find the way home] anymore, and {Ahe} was [afraid|cold and tired].",
        "then {Ahe} heard a voice that {Ahe} knew. \"follow me,\" said {B}. \"I know every [path|stone] here.\"",
        "{B} led {A} [safely|all the way] home.",
        "\"now you have saved me,\" said {A}. \"[a kind deed always comes back|even a small friend can be a great help].\"",
    ]),
    "cake": (["baking", "a cake", "a birthday"], [
        "it was the birthday of {Bfull}, {Ahis} best friend, and {A} wanted to bake a [big|lovely] cake for {Bhim}.",
        "{A} put [flour, butter and sugar|flour and honey] into a bowl, but then {Ahe} saw that there were no eggs.",
        "so {A} {walked} to {neighbour} and asked for [three|two|four] eggs.",
        "?\"here you are,\" said {neighbour}. \"but be careful on the way home.\"",
        "{A} stirred the dough and put the cake into the oven.",
        "?then {Ahe} [sat down by the fire and fell asleep|went to look for candles and forgot the time].",
        "[soon|suddenly] {Ahe} smelled smoke. the cake was as black as [coal|night]!",
        "---",
        "{A} felt {sad}, but {Ahe} did not give up.",
        "{Ahe} started again, and this time {Ahe} [watched the oven|sat beside the oven] [the whole time|and did not look away once].",
        "the second cake was [golden and soft|round and golden], and it smelled [wonderful|of honey and summer].",
        "when {B} [opened the door and|] saw the cake, {Bhis} eyes [shone|grew wide].",
        "\"happy birthday!\" [called|cried] {A}.",
        "?they invited {neighbour} too, and everyone ate two slices.",
        "\"this is the best cake of my life,\" said {B}.",
    ]),
    "seed": (["a garden", "a seed", "being patient"], [
        "{weather} {neighbour} gave {A} a [tiny|small] seed.",
        "\"plant it and be patient,\" said {neighbour}. \"something [good|wonderful] will grow.\"",
        "{A} planted the seed {gardenspot} and gave it water.",
        "the next day {Ahe} looked, but there was only earth. the day after, there was still nothing.",
        "?\"maybe it is asleep,\" said {Ahis} friend {Bfull}. \"[we could sing to it|let us tell it a story].\"",
        "so every [day|morning] {A} watered the seed[, and every evening {Ahe} sang to it| and waited].",
        "---",
        "then, [one rainy morning|after a warm night], a green [shoot|leaf] [came out of the ground|looked out of the earth].",
        "?it grew as high as {Ahis} knee, and then as high as the [fence|door].",
        "by the end of summer it was a [tall sunflower|great pumpkin plant|tall bean plant|small apple tree].",
        "{A} and {B} [danced around it|clapped and laughed].",
        "they [shared|gave away] what it gave them with [everybody|all the neighbours], and {A} kept [one seed|a handful of seeds] for the next spring.",
        "\"good things take time,\" said {A}, \"but they are worth the wait.\"",
    ]),
    "rain": (["the rain", "a storm", "a rainbow"], [
        "{weather} {A} and {Ahis} friend {Bfull} walked to {place} [to have a picnic|to look for adventures].",
        "?they saw {sight1} and {sight2} on the way.",
        "[suddenly|all at once], dark clouds covered the sun, and [big drops of rain began to fall|it began to rain].",
        "?thunder rolled over the [hills|roofs], and {B} began to shake.",
        "\"[quick|come on],\" [called|cried] {A}. \"I know a dry place!\"",
        "they ran [as fast as they could|hand in hand] and found shelter [in an old barn|in a small cave|under a great tree|in an empty hut].",
        "---",
        "inside, they [shared {nicefood}|dried their feet] and listened to the rain.",
        "{A} told a [funny|long] story about [a king who lost his shoes|a whale who wanted to fly|a clock that was always late], and [soon|] {B} forgot to be afraid.",
        "when the rain stopped, they [went|looked] outside.",
        "over {place} stood a rainbow with all its colours.",
        "\"if it had not rained, we would never have seen it,\" said {B}.",
        "they [jumped into every puddle|walked through the puddles] all the way home.",
    ]),
    "share": (["sharing", "a quarrel", "a {treasure}"], [
        "{weather} {A} and {Ahis} friend {Bfull} found a {treasure} {spot1}.",
        "\"it is mine,\" said {A}. \"I saw it first.\" \"no, it is mine,\" said {B}. \"I picked it up.\"",
        "they both pulled [at it|as hard as they could], and neither would let go.",
        "?[a passing bird|an old snail|a sleepy toad] shook its head and said nothing.",
        "then {B} [fell into the mud|slipped and fell down], and {Bhe} began to cry.",
        "---",
        "{A} looked at {Ahis} friend, and {Ahe} was ashamed.",
        "\"I am sorry,\" {Ahe} said[, and helped {B} up|]. \"a friend is worth more than a {treasure}.\"",
        "{B} dried {Bhis} eyes. \"I am sorry too,\" {Bhe} said. \"let us share it.\"",
        "so {A} had the {treasure} [in the morning, and {B} had it in the afternoon|on one day, and {B} had it on the next].",
        "?and because each of them looked forward to the next turn, it was even more fun than before.",
        "they never [quarrelled|fought] about it again.",
    ]),
    "race": (["a race", "winning", "never giving up"], [
        "every [year|summer] there was a great race from {place} to the [old mill|stone bridge|market square].",
        "{B}, {Aintro2}, was the fastest of all. \"nobody can beat me,\" {Bhe} said [proudly|every day].",
        "{A} was not fast, but {Ahe} wanted to try.",
        "?some of the others laughed at {Ahim}, but {A} did not mind.",
        "when the [bell rang|whistle blew], {B} [shot away like an arrow|ran like the wind] and was soon out of sight.",
        "{A} went on, step by step, [and did not stop|without a rest].",
        "---",
        "halfway, {B} looked back and saw no one. \"I have plenty of time,\" {Bhe} thought, and lay down {spot1} for a [little|short] nap.",
        "the sun was warm, and {B} [slept and slept|slept much too long].",
        "[quietly|slowly], {A} passed by, [one step after another|step by step].",
        "?when {B} woke up and saw {Ahim} near the end, {Bhe} ran as fast as {Bhe} could, but it was too late.",
        "{A} [crossed the line first|won the race], and everybody [cheered|clapped].",
        "\"well done,\" said {B}. \"[I was fast, but you did not give up|next time I will not sleep].\"",
        "then they shared the prize, [a big bowl of {Afood}|{nicefood}].",
    ]),
    "map": (["a treasure", "an adventure", "a map"], [
        "{weather} {A} found an old map [in a dusty box|inside a bottle|between the pages of a book].",
        "there was a red cross on it, and [beside it|under it] somebody had written: \"here lies the greatest treasure.\"",
        "{A} showed it to {Ahis} friend {Bfull}. \"let us find it,\" they said[ together|].",
        "first they {walked} to {place}, where they saw {sight1}.",
        "?then they crossed [a narrow bridge|a cold stream|a field of tall corn] and [climbed over a wall|crept through a hedge].",
        "at last they came to the place with the red cross. it was {spot1}.",
        "---",
        "they [dug|dug and dug] until they [hit something hard|found a wooden box].",
        "[inside|in the box] was no gold. there [was only|lay] [a small mirror|an old lamp|a bag of seeds|a book of stories] and a note.",
        "\"the greatest treasure is the friend [who came with you|beside you],\" {A} read.",
        "{A} and {B} looked at each other and {smiled}.",
        "?they put the note back for the next [finder|adventurers] and walked home in the evening sun.",
        "\"[it is true|the note is right],\" said {B}, \"[I would not trade today for gold|and it was a great adventure too].\"",
    ]),
    "truth": (["telling the truth", "a mistake", "being honest"], [
        "{weather} {A} was playing with a ball inside the house, although {Ahe} knew that it was not allowed.",
        "the ball [flew through the air|bounced off the wall] and hit the [blue vase|big clock|painted jug]. it [fell down and broke|broke into many pieces].",
        "?that [vase|thing] had been a gift, and {Ahis} {adult} loved it [very much|dearly].",
        "[quickly|with shaking hands], {A} hid the pieces under the [carpet|bed].",
        "?at supper {Ahe} could not eat, not even {Afood}.",
        "\"[is something wrong|are you ill]?\" asked {Ahis} {adult}. \"no,\" said {A}, but {Ahis} [stomach hurt|face grew red].",
        "---",
        "that night {A} could not sleep. the secret was as heavy as a stone.",
        "?{Ahis} friend {Bfull} had once said, \"the truth is hard for a minute, but a lie is hard for a long time.\"",
        "so {A} got up and [told {Ahis} {adult} everything|said, \"it was me. I broke it, and I am sorry\"].",
        "{Ahis} {adult} was quiet for a moment, and then gave {Ahim} a hug.",
        "\"thank you for telling me the truth,\" said {Ahis} {adult}. \"[things can be mended|that was brave].\"",
        "the next day they glued the pieces together[, and {A} felt light again| while {B} made tea].",
    ]),
    "wish": (["magic", "a wish", "a fairy"], [
        "{weather} {A} found a [shining|strange|golden] [stone|shell|ring] {spot1}.",
        "when {Ahe} [rubbed it|picked it up], a tiny fairy [came out|appeared] and said, \"you have one wish.\"",
        "{A} thought [and thought|for a long time]. {Ahe} could wish for [gold|a castle] or for a mountain of {Afood}.",
        "?the fairy waited and [swung her legs|hummed a tune].",
        "then {Ahe} remembered {Ahis} friend {Bfull}, who [was ill in bed|had been very sad lately|had hurt {Bhis} leg].",
        "---",
        "\"I wish that {B} [were well and happy again|could laugh again],\" said {A}.",
        "the fairy smiled. \"that is the best wish I have heard in a hundred years,\" she said, and [clapped her hands|vanished in a cloud of sparks].",
        "{A} ran [home|to {B}'s home] as fast as {Ahe} could.",
        "and there stood {B} [at the door|in the sunshine], [laughing and dancing|as healthy as could be].",
        "?\"[what a wonder|I feel wonderful]!\" said {B}. {A} only {smiled}.",
        "on the table stood a [big|silver] bowl of {Afood} with a note: \"for a kind heart.\"",
    ]),
    "gift": (["a gift", "a present", "giving"], [
        "it was almost the birthday of {Bfull}, {Ahis} [best|dear] friend, and {A} wanted to give {Bhim} something special.",
        "{Ahe} went to the market and saw [bright ribbons|a silver cup|a painted box], but {Ahe} had only one coin.",
        "?\"that is not enough,\" said {neighbour}[ kindly|].",
        "{A} walked home [slowly|with empty hands] and thought about what to do.",
        "on the way {Ahe} picked up [a smooth piece of wood|some white shells|a few fine feathers|some coloured leaves].",
        "---",
        "all evening {A} [worked|cut and glued and painted], and [when the moon rose|at midnight] {Ahe} had made a [small boat|necklace|picture frame|music box].",
        "the next day there were many gifts on {B}'s table, big ones in shiny paper.",
        "?{A} was almost too shy to bring {Ahis} own.",
        "but when {B} opened it, {Bhe} [went very quiet|held {Bhis} breath]. \"you made this [for me|yourself]?\" {Bhe} asked.",
        "\"yes,\" said {A}, \"[it took me all night|I had no money].\"",
        "\"it is the [most beautiful|best] gift of all,\" said {B}, \"because [a piece of your heart is in it|you made it with your own hands].\"",
    ]),
    "astray": (["getting lost", "finding the way home", "coming home"], [
        "{weather} {A} followed a [blue butterfly|white feather in the wind|bright beetle] deep into {wild}.",
        "it was so beautiful that {Ahe} did not look at the way.",
        "when {Ahe} stopped, {Ahe} did not know where {Ahe} was.",
        "?the [trees|rocks] looked all the same, and [the light was fading|it was getting late].",
        "\"hello?\" called {A}, but only the echo answered.",
        "{Ahe} [sat down|leaned against a stone] and tried not to cry.",
        "---",
        "then a {Bnoun} [came out of the shadows|came around a rock|stepped onto the path]. it was {Ahis} friend {B}.",
        "\"are you lost?\" asked {B}. {A} nodded.",
        "\"listen,\" said {B}. \"can you hear the water? the stream flows to the village. [follow it, and you will find your home|we only have to follow it].\"",
        "so they walked along the stream, [over roots and stones|past ferns and old stones], until {A} saw the lights of {Ahis} home.",
        "?the smell of {Afood} was in the air.",
        "{thanks} {A}. \"[next time I will mark my way|now I will never be lost here again].\"",
    ]),
    "learn": (["learning something new", "practice", "trying again"], [
        "all {Ahis} friends could {skill}, but {A} could not.",
        "{weather} {Ahe} decided to learn it.",
        "the first time {Ahe} tried, {skillfail}.",
        "?\"[ouch|oh dear]!\" said {A}.",
        "the second time was no better, and the third time was even worse.",
        "?\"I will never learn it,\" {Ahe} said, and kicked a stone.",
        "---",
        "{Ahis} friend {Bfull} had seen it all. \"I fell [ten|twenty] times before I learned it,\" said {B}. \"do not think of the end. think only of the next small step.\"",
        "so {A} tried again, a little every day.",
        "?on Monday it went badly, on Wednesday it went better, and on Friday it almost worked.",
        "and then, [one morning|on Sunday], {Ahe} could [really|suddenly] {skill}!",
        "\"look at me!\" {Ahe} [cried|shouted], and {B} clapped and cheered.",
        "[a week later|the next day], {A} taught it to [a little mouse|a younger friend|the smallest of them all]. \"[think of the next small step|do not give up],\" {Ahe} said.",
    ]),
    "winter": (["winter", "the snow", "the cold"], [
        "it was a hard winter, and snow lay on {place}.",
        "{A} sat [by the fire|in the warm] with a bowl of {Afood} when [there was a tap at the window|{Ahe} heard a tap].",
        "outside stood {Bintro}, [shaking with cold|with snow on {Bhis} nose].",
        "\"please,\" said {B}, \"I have not eaten for [two|three] days.\"",
        "?there was not much food left, and the winter was long.",
        "but {A} opened the door. \"come in,\" {Ahe} said. \"[what is enough for one is enough for two|there is room for both of us].\"",
        "---",
        "all winter they [shared the food and the fire|lived together], and the long nights were full of [songs|stories and laughter].",
        "when spring came and the snow melted, {B} [went away to find {Bhis} family|said goodbye].",
        "?{A} stood at the door and waved, and the house seemed very quiet.",
        "but [in summer|one day] {B} came back with a [great basket|whole cart] full of [fruit|nuts and berries|apples].",
        "\"you shared your little with me,\" said {B}. \"now I will share my plenty with you.\"",
    ]),
    "star": (["the stars", "the moon", "sleeping"], [
        "one night {A} could not sleep, so {Ahe} went to the window and looked at the sky.",
        "a [tiny|small] star [fell|came down] from the sky and landed {gardenspot}.",
        "{A} ran out [at once|in the moonlight] and found it. it was [no bigger than a plum|as small as a nut], and it was crying.",
        "\"I slipped,\" said the star. \"how can I get home?\"",
        "?{A} tried to throw it up, but it only [fell into the grass|came down again].",
        "so {Ahe} woke {Ahis} friend {Bfull}, who always had good ideas.",
        "---",
        "{B} thought for a moment. \"[we need the highest place of all|let us climb up],\" {Bhe} said.",
        "they carried the star to the top of [the highest hill|the old tower], and it shone on their way like a lantern.",
        "at the top, the wind was strong. \"now [jump|fly]!\" called {A}, and the wind lifted the little star higher and higher.",
        "?it became smaller and smaller, until it was [only a point of light|back with its sisters].",
        "since then, one star [winks|blinks] every night above {A}'s home.",
        "\"good night, little star,\" says {A}, and falls asleep.",
    ]),
    "song": (["music", "a song", "singing"], [
        "{A} loved to sing, but {Ahis} voice was [very quiet|a little rough], and {Ahe} was [too shy|afraid] to sing for others.",
        "so {Ahe} only sang {spot1}, where nobody could hear {Ahim}.",
        "{weather} {Bintro} came by and heard the song.",
        "?{B} stood still and did not even [blink|breathe].",
        "\"that was beautiful,\" said {B}. {A} [turned red|jumped] and wanted to run away.",
        "---",
        "\"please do not go,\" said {B}. \"tomorrow is the summer feast, and we have no music. will you sing for us?\"",
        "{A} [was afraid|shook {Ahis} head], but {B} said, \"I will stand beside you. look only at me.\"",
        "the next evening [lanterns hung in the trees|the whole village was there], and {A}'s knees [shook|were weak].",
        "{Ahe} looked at {B}, took a deep breath, and began to sing.",
        "?first it was very quiet, but then {Ahis} voice grew [clear and warm|stronger and stronger].",
        "when the song was over, everyone [clapped and cheered|called for more].",
        "\"I was afraid,\" said {A} [later|afterwards], \"but with a friend beside me, I could do it.\"",
    ]),
}
SKILLS = {
    "swim": "{Ahe} swallowed a lot of water", "ride a bicycle": "{Ahe} fell into a bush", "whistle": "only air came out",
    "skate on the ice": "{Ahe} landed on {Ahis} back", "climb the old oak": "{Ahe} slid down again", "juggle three apples": "all the apples rolled away",
    "play the flute": "it squeaked like a rusty door", "jump over the stream": "{Ahe} landed in the water",
}
SPECIES = list(words.ANIMALS) + ["girl", "boy", "princess", "prince"]


class Story:
    """One story: `text`, and the facts that a chat can ask for."""

    def __init__(self, rng, species=None, plot=None, short=False, once=None):
        self.plot = plot or rng.choice(list(PLOTS))
        self.hero = hero = Character(rng, species)
        other = "she" if hero.pronoun == "he" else "he"
        kinds = [None] if hero.human and rng.random() < 0.5 else [rng.choice(list(words.ANIMALS))]
        self.friend = friend = Character(rng, kinds[0], other if rng.random() < 0.8 else None, taken=(hero.name,))
        while friend.species == hero.species and not hero.human:
            self.friend = friend = Character(rng, None, other, taken=(hero.name,))
        place = rng.choice(list(words.PLACES))
        spots, sights = words.PLACES[place]
        spots, sights = rng.sample(spots, 3), rng.sample(sights, 2)
        neighbour = rng.choice(list(words.NEIGHBOURS))
        skill = rng.choice(list(SKILLS))
        self.place, self.treasure = place, rng.choice(words.TREASURES)
        slots = {**GENERAL, **hero.slots("A"), **friend.slots("B"), "place": place, "treasure": self.treasure, "village": rng.choice(words.VILLAGES),
                 "hobby": rng.choice(words.HOBBIES), "trait": rng.choice(words.TRAITS), "fault": rng.choice(words.FAULTS), "neighbour": neighbour,
                 "adult": rng.choice(words.ADULTS_SHE + words.ADULTS_HE), "weather": rng.choice(WEATHER), "skill": skill, "skillfail": SKILLS[skill],
                 "gardenspot": rng.choice(["in the garden", "beside the door", "next to the old fence"]),
                 "wild": rng.choice(["the forest", "the mountains", "the woods"]), "Aintro2": f"a {friend.noun}",
                 "Bfull": "{B}" if friend.human else "[{B}|{B} the {Bkind}]"}
        for i, spot in enumerate(spots):
            slots[f"spot{i + 1}"] = spot
        for i, sight in enumerate(sights):
            slots[f"sight{i + 1}"] = sight
        once = rng.random() < 0.55 if once is None else once
        beats = [rng.choice(OPENINGS if once else OTHER_OPENINGS)]
        if rng.random() < (0.4 if short else 0.8):
            beats.append(rng.choice(ABOUT))
        keep = 0.2 if short else 0.7
        for beat in PLOTS[self.plot][1]:
            if beat.startswith("?"):
                if rng.random() < keep:
                    beats.append(beat[1:])
            elif beat != "---" or not short:
                beats.append(beat)
        if self.plot != "star" and rng.random() < 0.75:
            kinds = [""] + ["day"] * (self.plot in DAY_PLOTS) + ["trip"] * (self.plot in TRIP_PLOTS)
            beats.append(rng.choice(ENDINGS[rng.choice(kinds)]))
        if rng.random() < 0.1:
            beats.append("the end.")
        paragraphs = " ".join("^" + beat for beat in beats).split(" ^--- ")
        self.topic = expand(rng, rng.choice(PLOTS[self.plot][0]), slots)
        self.text = "\n\n".join(finish(expand(rng, p, slots)) for p in paragraphs)


if __name__ == "__main__":
    import random
    import sys

    source = random.Random(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    for plot_name in PLOTS:
        print(f"[{plot_name}]", Story(source, plot=plot_name, short=source.random() < 0.3).text, "\n")
